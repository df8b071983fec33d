//! Products on devices in software: one kernel for all sizes, as it takes longer there to compile and
//! time several than the fastest of them saves. Sums have the same order in every run.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
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
pub(crate) trait SoftwareProduct: Backend {
    /// `x · weight`, which have the same type.
    #[fusion(dtype = x, shape = rows_and_columns(x, weight))]
    fn software_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// A unit makes [`ROWS`] rows and [`COLUMNS`] columns of the result. `turned` says that the weight
/// lies column after column.
#[cube(launch_unchecked)]
fn product<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    output: &mut [Vector<F, N>],
    rows: usize,
    vectors: usize,
    columns: usize,
    #[comptime] turned: bool,
    #[define(F)] _dtype: ElemType,
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
                let mut values = Vector::<F, N>::empty();
                #[unroll]
                for j in 0..each {
                    values.insert(j, F::cast_from(sums[r * COLUMNS + c * each + j]));
                }
                output[((row + r) * columns + column) / each + c] = values;
            }
        }
    }
}

impl SoftwareProduct for CubeBackend {
    fn software_product(x: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let x = contiguous(x);
        let ([rows, k], [_, columns]) = (x.shape().dims(), weight.shape().dims());
        let strides = weight.meta.strides();
        let turned = strides[0] == 1 && strides[1] == k;
        let weight = if turned { weight } else { contiguous(weight) };
        let output = empty(&x, [rows, columns], x.dtype);
        if rows * columns == 0 {
            return output;
        }
        let divides = k.is_multiple_of(VECTOR) && columns.is_multiple_of(VECTOR);
        let vector = if divides { VECTOR } else { 1 };
        let tiles = rows.div_ceil(ROWS) * columns.div_ceil(COLUMNS);
        // SAFETY: rows and columns are within those of the tensors, whatever the number of units.
        unsafe {
            product::launch_unchecked(
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
                elem(&x),
            );
        }
        output
    }
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
