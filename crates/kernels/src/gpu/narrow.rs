//! Rows in 16 bits, for products with weights in 16 bits.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{buffer, contiguous, cubes, elem, empty, units_of_row};
use super::reduce::max_of_units;

fn rows_and_sizes(x: &TensorSpec, dtype: FloatDType) -> (TensorSpec, TensorSpec) {
    let [rows, _] = x.shape.dims();
    let sizes = TensorSpec::new(Shape::new([rows, 1]), DType::F32);
    (TensorSpec::new(x.shape.clone(), dtype.into()), sizes)
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait Narrow: Backend {
    /// Each row of `x`, `[rows, d]`, divided by its size, in the type `dtype`; and the sizes,
    /// `[rows, 1]` in 32 bits.
    #[fusion(meta = |x, dtype| -> (TensorSpec, TensorSpec) { rows_and_sizes(x, *dtype) })]
    fn narrowed(x: FloatTensor<Self>, dtype: FloatDType) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Writes the row of `d` values at `begin`, divided by its size, to the same place of `narrow`, and
/// returns the size. All units of the workgroup must call this.
///
/// f16 holds only magnitudes from 6e-8 to 65504, so the row gets a Euclidean norm of at most 16. Its
/// products are then at most 16 times the norm of a column of the weight, and the gradient of a mean
/// loss stays far from zero.
#[cube]
pub(crate) fn narrow_row<F: Float, N: Float>(
    x: &[F],
    narrow: &mut [N],
    begin: usize,
    d: usize,
    #[comptime] units: u32,
) -> f32 {
    let mut largest = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        largest = max(largest, f32::cast_from(x[begin + i]).abs());
        i += units as usize;
    }
    let largest = max_of_units(largest, units);
    // A row of zeros stays one.
    let size = largest * (d as f32).sqrt() / 16.0f32 + 1.0e-30f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        narrow[begin + i] = N::cast_from(f32::cast_from(x[begin + i]) / size);
        i += units as usize;
    }
    size
}

/// A workgroup takes a row.
#[cube(launch_unchecked)]
fn narrow_rows<F: Float, N: Float>(
    x: &[F],
    narrow: &mut [N],
    sizes: &mut [f32],
    d: usize,
    #[comptime] units: u32,
    #[define(F, N)] _dtypes: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= sizes.len() {
        terminate!();
    }
    let size = narrow_row::<F, N>(x, narrow, row * d, d, units);
    if UNIT_POS == 0 {
        sizes[row] = size;
    }
}

impl Narrow for CubeBackend {
    fn narrowed(x: CubeTensor, dtype: FloatDType) -> (CubeTensor, CubeTensor) {
        let x = contiguous(x);
        let [rows, d] = x.shape().dims();
        let narrow = empty(&x, [rows, d], dtype.into());
        let sizes = empty(&x, [rows, 1], DType::F32);
        let units = units_of_row(d);
        // SAFETY: the row is checked, and `narrow` is as long as `x`.
        unsafe {
            narrow_rows::launch_unchecked(
                &x.client,
                cubes(rows),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&narrow),
                buffer(&sizes),
                d,
                units,
                [elem(&x), elem(&narrow)],
            );
        }
        (narrow, sizes)
    }
}
