//! The root-mean-square norm on GPUs: a workgroup a row.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{buffer, contiguous, cubes, elem, empty, empty_like, units_of_row};
use super::reduce::{COLUMNS, LANES, columns, sum_of_lanes, sum_of_units};

/// As [`rms_norm`](crate::rms_norm). The backward pass keeps `x` and computes the statistics of its
/// rows again.
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64, offset: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rms_norm_gpu(
        x.into_dispatch(),
        weight.into_dispatch(),
        epsilon as f32,
        offset as f32,
    ))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait RmsNormGpu: Backend {
    #[fusion(dtype = x, shape = x)]
    fn rms_norm_gpu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        offset: f32,
    ) -> FloatTensor<Self>;
}

/// The backward passes.
#[backend_extension(Cube, Fusion)]
trait RmsNormGradients: Backend {
    /// The gradient of `x`.
    #[fusion(dtype = x, shape = x)]
    fn rms_norm_gpu_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
        offset: f32,
    ) -> FloatTensor<Self>;

    /// The gradient of `weight`, of which only the length is read.
    #[fusion(dtype = weight, shape = weight)]
    fn rms_norm_gpu_weight(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

/// The factor that brings a row's values to the size 1. All units of the workgroup must call this.
#[cube]
fn inverse_root<F: Float>(
    x: &[F],
    begin: usize,
    d: usize,
    epsilon: f32,
    #[comptime] units: u32,
) -> f32 {
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let value = f32::cast_from(x[begin + i]);
        squares += value * value;
        i += units as usize;
    }
    let mean = sum_of_units(squares, units) / f32::cast_from(d as u32);
    (mean + epsilon).inverse_sqrt()
}

#[cube(launch_unchecked)]
fn forward<F: Float>(
    x: &[F],
    weight: &[F],
    output: &mut [F],
    d: u32,
    epsilon: f32,
    offset: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let begin = CUBE_POS * d;
    if begin >= x.len() {
        terminate!();
    }
    let factor = inverse_root::<F>(x, begin, d, epsilon, units);
    let mut i = UNIT_POS as usize;
    while i < d {
        let weight = offset + f32::cast_from(weight[i]);
        output[begin + i] = F::cast_from(f32::cast_from(x[begin + i]) * factor * weight);
        i += units as usize;
    }
}

#[cube(launch_unchecked)]
fn of_x<F: Float>(
    x: &[F],
    weight: &[F],
    grad: &[F],
    output: &mut [F],
    d: u32,
    epsilon: f32,
    offset: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let begin = CUBE_POS * d;
    if begin >= x.len() {
        terminate!();
    }
    let factor = inverse_root::<F>(x, begin, d, epsilon, units);
    let mut product = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let weight = offset + f32::cast_from(weight[i]);
        product += f32::cast_from(grad[begin + i]) * weight * f32::cast_from(x[begin + i]);
        i += units as usize;
    }
    let product = sum_of_units(product, units);
    let share = product * factor * factor / f32::cast_from(d as u32);
    let mut i = UNIT_POS as usize;
    while i < d {
        let weight = offset + f32::cast_from(weight[i]);
        let direct = f32::cast_from(grad[begin + i]) * weight;
        let value = factor * (direct - f32::cast_from(x[begin + i]) * share);
        output[begin + i] = F::cast_from(value);
        i += units as usize;
    }
}

#[cube(launch_unchecked)]
fn inverse_roots<F: Float>(
    x: &[F],
    output: &mut [f32],
    d: u32,
    epsilon: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let row = CUBE_POS;
    if row >= output.len() {
        terminate!();
    }
    let factor = inverse_root::<F>(x, row * d, d, epsilon, units);
    if UNIT_POS == 0 {
        output[row] = factor;
    }
}

/// A workgroup takes [`COLUMNS`] columns, and each of its lanes every [`LANES`]-th row.
#[cube(launch_unchecked)]
fn of_weight<F: Float>(
    x: &[F],
    grad: &[F],
    factors: &[f32],
    output: &mut [F],
    #[define(F)] _dtype: ElemType,
) {
    let d = output.len();
    let column = CUBE_POS * COLUMNS as usize + UNIT_POS_X as usize;
    let mut sum = 0.0f32;
    if column < d {
        let mut row = UNIT_POS_Y as usize;
        while row < factors.len() {
            let at = row * d + column;
            sum += f32::cast_from(grad[at]) * f32::cast_from(x[at]) * factors[row];
            row += LANES as usize;
        }
    }
    let sum = sum_of_lanes(sum);
    if UNIT_POS_Y == 0 && column < d {
        output[column] = F::cast_from(sum);
    }
}

/// How many rows of `d` values there are.
fn rows(x: &CubeTensor, d: usize) -> usize {
    x.shape().num_elements() / d
}

impl RmsNormGpu for CubeBackend {
    fn rms_norm_gpu(x: CubeTensor, weight: CubeTensor, epsilon: f32, offset: f32) -> CubeTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let [d] = weight.shape().dims();
        let (output, units) = (empty_like(&x), units_of_row(d));
        // SAFETY: units go no further than the ends of `x` and `weight`, and `output` is as long.
        unsafe {
            forward::launch_unchecked(
                &x.client,
                cubes(rows(&x, d)),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&weight),
                buffer(&output),
                d as u32,
                epsilon,
                offset,
                units,
                elem(&x),
            );
        }
        output
    }
}

impl RmsNormGradients for CubeBackend {
    fn rms_norm_gpu_x(
        x: CubeTensor,
        weight: CubeTensor,
        grad: CubeTensor,
        epsilon: f32,
        offset: f32,
    ) -> CubeTensor {
        let [x, weight, grad] = [x, weight, grad].map(contiguous);
        let [d] = weight.shape().dims();
        let (output, units) = (empty_like(&x), units_of_row(d));
        // SAFETY: as in the forward pass; `grad` is as long as `x`.
        unsafe {
            of_x::launch_unchecked(
                &x.client,
                cubes(rows(&x, d)),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&weight),
                buffer(&grad),
                buffer(&output),
                d as u32,
                epsilon,
                offset,
                units,
                elem(&x),
            );
        }
        output
    }

    fn rms_norm_gpu_weight(
        x: CubeTensor,
        weight: CubeTensor,
        grad: CubeTensor,
        epsilon: f32,
    ) -> CubeTensor {
        let [x, grad] = [x, grad].map(contiguous);
        let [d] = weight.shape().dims();
        let (rows, units) = (rows(&x, d), units_of_row(d));
        let factors = empty(&x, [rows], DType::F32);
        let output = empty(&x, [d], weight.dtype);
        let (of_columns, lanes) = columns(d);
        // SAFETY: `factors` has a value a row, and `output` one a column, which is checked.
        unsafe {
            inverse_roots::launch_unchecked(
                &x.client,
                cubes(rows),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&factors),
                d as u32,
                epsilon,
                units,
                elem(&x),
            );
            of_weight::launch_unchecked(
                &x.client,
                of_columns,
                lanes,
                buffer(&x),
                buffer(&grad),
                buffer(&factors),
                buffer(&output),
                elem(&x),
            );
        }
        output
    }
}

impl<B: RmsNormGpu + RmsNormGradients, C: CheckpointStrategy> RmsNormGpu for Autodiff<B, C> {
    fn rms_norm_gpu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        offset: f32,
    ) -> FloatTensor<Self> {
        let prepared = RmsNormBackward.prepare::<C>([x.node(), weight.node()]);
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let output = B::rms_norm_gpu(x.clone(), weight.clone(), epsilon, offset);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, epsilon, offset), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl<B: RmsNormGradients> Backward<B, 2> for RmsNormBackward {
    /// `x`, `weight`, `epsilon`, `offset`.
    type State = (FloatTensor<B>, FloatTensor<B>, f32, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, epsilon, offset) = ops.state;
        if let Some(node) = of_weight {
            let (x, weight, grad) = (x.clone(), weight.clone(), grad.clone());
            let gradient = B::rms_norm_gpu_weight(x, weight, grad, epsilon);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = of_x {
            let gradient = B::rms_norm_gpu_x(x, weight, grad, epsilon, offset);
            grads.register::<B>(node.id, gradient);
        }
    }
}
