//! Products with frozen weights: CubeCL's kernels, and on devices in software one kernel for all sizes,
//! as it takes longer there to compile and time several than the fastest of them saves. Its sums have
//! the same order in every run.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use super::launch::{buffer, contiguous, cubes, elem, empty};

/// Rows and columns of the result that a unit makes. In software a value is read in far more time
/// than it is multiplied in, and there is room for many sums.
const ROWS: usize = 16;
const COLUMNS: usize = 16;
/// How many values are read and written at once.
const VECTOR: usize = 4;
/// Few, so that all processors have work; the device computes so many at once.
const UNITS: u32 = 8;

fn rows_and_columns(x: &Shape, weight: &Shape) -> Shape {
    Shape::new([x.dims::<2>()[0], weight.dims::<2>()[1]])
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait GpuProduct: Backend {
    /// `x · weight`, which have the same type, in the type `dtype`. Nothing is fused with it.
    #[fusion(dtype = (*dtype).into(), shape = rows_and_columns(x, weight))]
    fn gpu_product(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dtype: FloatDType,
    ) -> FloatTensor<Self>;
}

impl GpuProduct for CubeBackend {
    fn gpu_product(x: CubeTensor, weight: CubeTensor, dtype: FloatDType) -> CubeTensor {
        product(x, weight, dtype.into())
    }
}

/// `x · weight`, which have the same type, in the type `dtype`.
pub(crate) fn product(x: CubeTensor, weight: CubeTensor, dtype: DType) -> CubeTensor {
    if is_software(&x.device) {
        in_software(x, weight, dtype)
    } else {
        by_cubecl(x, weight, dtype)
    }
}

fn by_cubecl(x: CubeTensor, weight: CubeTensor, dtype: DType) -> CubeTensor {
    let product = matmul(x, weight, None, MatmulStrategy::default(), dtype);
    product.expect("CubeCL has a kernel for every product of matrices")
}

/// A unit makes [`ROWS`] rows and [`COLUMNS`] columns of the result. `turned` says that the weight
/// lies column after column.
#[cube(launch_unchecked)]
fn software_product<F: Float, O: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    output: &mut [Vector<O, N>],
    rows: usize,
    vectors: usize,
    columns: usize,
    #[comptime] turned: bool,
    #[define(F, O)] _dtypes: [ElemType; 2],
) {
    let each = N::value().comptime();
    let across = columns.div_ceil(COLUMNS);
    let row = ABSOLUTE_POS / across * ROWS;
    let column = ABSOLUTE_POS % across * COLUMNS;
    if row >= rows {
        terminate!();
    }
    // Beyond the last row or column, those are computed again, and not written.
    let mut starts = Array::<usize>::new(ROWS);
    #[unroll]
    for r in 0..ROWS {
        starts[r] = min(row + r, rows - 1) * vectors;
    }
    let mut sums = Array::<f32>::new(comptime!(ROWS * COLUMNS));
    #[unroll]
    for i in 0..comptime!(ROWS * COLUMNS) {
        sums[i] = 0.0f32;
    }
    let mut of_x = Array::<Vector<F, N>>::new(ROWS);
    for step in 0..vectors {
        #[unroll]
        for r in 0..ROWS {
            of_x[r] = x[starts[r] + step];
        }
        if turned {
            #[unroll]
            for c in 0..COLUMNS {
                let of_weight = weight[min(column + c, columns - 1) * vectors + step];
                #[unroll]
                for r in 0..ROWS {
                    #[unroll]
                    for i in 0..each {
                        let factor = f32::cast_from(of_x[r].extract(i));
                        sums[r * COLUMNS + c] += factor * f32::cast_from(of_weight.extract(i));
                    }
                }
            }
        } else {
            #[unroll]
            for i in 0..each {
                #[unroll]
                for c in 0..comptime!(COLUMNS / each) {
                    let at = min(column / each + c, columns / each - 1);
                    let of_weight = weight[(step * each + i) * (columns / each) + at];
                    #[unroll]
                    for r in 0..ROWS {
                        let factor = f32::cast_from(of_x[r].extract(i));
                        #[unroll]
                        for j in 0..each {
                            let product = factor * f32::cast_from(of_weight.extract(j));
                            sums[r * COLUMNS + c * each + j] += product;
                        }
                    }
                }
            }
        }
    }
    #[unroll]
    for r in 0..ROWS {
        #[unroll]
        for c in 0..comptime!(COLUMNS / each) {
            if row + r < rows && column + c * each < columns {
                let mut values = Vector::<O, N>::empty();
                #[unroll]
                for j in 0..each {
                    values.insert(j, O::cast_from(sums[r * COLUMNS + c * each + j]));
                }
                output[((row + r) * columns + column) / each + c] = values;
            }
        }
    }
}

fn in_software(x: CubeTensor, weight: CubeTensor, dtype: DType) -> CubeTensor {
    let x = contiguous(x);
    let ([rows, k], [_, columns]) = (x.shape().dims(), weight.shape().dims());
    let strides = weight.meta.strides();
    let turned = strides[0] == 1 && strides[1] == k;
    let weight = if turned { weight } else { contiguous(weight) };
    let output = empty(&x, [rows, columns], dtype);
    if rows * columns == 0 {
        return output;
    }
    let divides = k.is_multiple_of(VECTOR) && columns.is_multiple_of(VECTOR);
    let vector = if divides { VECTOR } else { 1 };
    let tiles = rows.div_ceil(ROWS) * columns.div_ceil(COLUMNS);
    // SAFETY: rows and columns are within those of the tensors, whatever the number of units.
    unsafe {
        software_product::launch_unchecked(
            &x.client,
            cubes(tiles.div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            vector,
            buffer(&x),
            buffer(&weight),
            buffer(&output),
            rows,
            k / vector,
            columns,
            turned,
            [elem(&x), elem(&output)],
        );
    }
    output
}

/// Whether this is the processor, used through a graphics API.
#[cfg(feature = "wgpu")]
pub(crate) fn is_software(device: &CubeDevice) -> bool {
    use burn::backend::WgpuDeviceKind;
    matches!(device, CubeDevice::Wgpu(device) if device.kind == WgpuDeviceKind::Cpu)
}

#[cfg(not(feature = "wgpu"))]
pub(crate) fn is_software(_: &CubeDevice) -> bool {
    false
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::backend::DispatchDevice;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::{Tensor, Tolerance};

    use super::*;
    use crate::testing::{device, on_gpu, random};

    /// What both kinds of devices compute, of weights that lie row after row and column after column.
    #[test]
    fn a_gpu_sums_in_32_bits() {
        on_gpu(|| {
            let device = device();
            let DispatchDevice::Cube(of_cubecl) = device.as_dispatch() else {
                panic!("not one of CubeCL's devices");
            };
            let placed = |tensor: &Tensor<2>| {
                let data = tensor.to_data();
                CubeBackend::float_from_data(data, of_cubecl)
            };
            let read = |tensor: CubeTensor| {
                let data = CubeBackend::float_into_data(tensor);
                burn::tensor::read_sync(data).unwrap()
            };
            let half = FloatDType::F16;
            if !device.supports_dtype(half) {
                return eprintln!("not run: the GPU has no f16");
            }
            for [rows, k, columns] in [[5, 33, 20], [40, 64, 48], [1, 2048, 16]] {
                for turned in [false, true] {
                    let x = random([rows, k], 1.0).cast(half);
                    let weight = random([columns, k], 1.0).cast(half);
                    let exact = x.clone().cast(FloatDType::F32);
                    let wide = weight.clone().transpose().cast(FloatDType::F32);
                    let exact = exact.matmul(wide).into_data();
                    for product in [by_cubecl, in_software] {
                        let weight = if turned {
                            CubeBackend::float_transpose(placed(&weight))
                        } else {
                            placed(&weight.clone().transpose())
                        };
                        let found = read(product(placed(&x), weight, DType::F32));
                        let sums = Tolerance::absolute(1e-5 * (k as f32).sqrt());
                        found.assert_approx_eq::<f32>(&exact, sums);
                    }
                }
            }
        });
    }
}
