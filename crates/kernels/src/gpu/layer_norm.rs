//! The layer norm on GPUs: a workgroup a row.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{buffer, contiguous, cubes, elem, empty, empty_like, units_of_row};
use super::reduce::{COLUMNS, LANES, columns, sum_of_lanes, sum_of_units, sums_of_units};
use crate::flex::Optional;

/// As [`layer_norm`](crate::layer_norm). The backward pass keeps `x` and computes the statistics of
/// its rows again.
pub(crate) fn layer_norm(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::layer_norm_gpu(
        x.into_dispatch(),
        gamma.into_dispatch(),
        Optional::of(beta),
        epsilon as f32,
    ))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait LayerNormGpu: Backend {
    #[fusion(dtype = x, shape = x)]
    fn layer_norm_gpu(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        #[extension_type] beta: Optional<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

#[backend_extension(Cube, Fusion)]
trait LayerNormGradients: Backend {
    /// The gradient of `x`.
    #[fusion(dtype = x, shape = x)]
    fn layer_norm_gpu_x(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// The gradients of `gamma`, of which only the length is read, and of `beta`.
    #[fusion(meta = |_x, gamma, _grad, _epsilon| -> (TensorSpec, TensorSpec) { (gamma.clone(), gamma.clone()) })]
    fn layer_norm_gpu_parameters(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// A row's mean, and its inverted deviation. All units of the workgroup must call this.
#[cube]
fn statistics<F: Float>(
    x: &[F],
    begin: usize,
    d: usize,
    epsilon: f32,
    #[comptime] units: u32,
) -> (f32, f32) {
    let count = f32::cast_from(d as u32);
    let mut sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        sum += f32::cast_from(x[begin + i]);
        i += units as usize;
    }
    let mean = sum_of_units(sum, units) / count;
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let value = f32::cast_from(x[begin + i]) - mean;
        squares += value * value;
        i += units as usize;
    }
    let variance = sum_of_units(squares, units) / count;
    (mean, (variance + epsilon).inverse_sqrt())
}

#[cube(launch_unchecked)]
fn forward<F: Float>(
    x: &[F],
    gamma: &[F],
    beta: &[F],
    output: &mut [F],
    d: u32,
    epsilon: f32,
    #[comptime] has_beta: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let begin = CUBE_POS * d;
    if begin >= x.len() {
        terminate!();
    }
    let (mean, factor) = statistics::<F>(x, begin, d, epsilon, units);
    let mut i = UNIT_POS as usize;
    while i < d {
        let normed = (f32::cast_from(x[begin + i]) - mean) * factor;
        let mut value = normed * f32::cast_from(gamma[i]);
        if has_beta {
            value += f32::cast_from(beta[i]);
        }
        output[begin + i] = F::cast_from(value);
        i += units as usize;
    }
}

#[cube(launch_unchecked)]
fn of_x<F: Float>(
    x: &[F],
    gamma: &[F],
    grad: &[F],
    output: &mut [F],
    d: u32,
    epsilon: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let begin = CUBE_POS * d;
    if begin >= x.len() {
        terminate!();
    }
    let (mean, factor) = statistics::<F>(x, begin, d, epsilon, units);
    let mut direct_sum = 0.0f32;
    let mut product_sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let direct = f32::cast_from(grad[begin + i]) * f32::cast_from(gamma[i]);
        direct_sum += direct;
        product_sum += direct * (f32::cast_from(x[begin + i]) - mean) * factor;
        i += units as usize;
    }
    let (direct_sum, product_sum) = sums_of_units(direct_sum, product_sum, units);
    let count = f32::cast_from(d as u32);
    let mut i = UNIT_POS as usize;
    while i < d {
        let normed = (f32::cast_from(x[begin + i]) - mean) * factor;
        let direct = f32::cast_from(grad[begin + i]) * f32::cast_from(gamma[i]);
        let value = factor * (direct - (direct_sum + normed * product_sum) / count);
        output[begin + i] = F::cast_from(value);
        i += units as usize;
    }
}

/// Mean and inverted deviation of each row, `[rows, 2]`.
#[cube(launch_unchecked)]
fn all_statistics<F: Float>(
    x: &[F],
    output: &mut [f32],
    d: u32,
    epsilon: f32,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let row = CUBE_POS;
    if 2 * row >= output.len() {
        terminate!();
    }
    let (mean, factor) = statistics::<F>(x, row * d, d, epsilon, units);
    if UNIT_POS == 0 {
        output[2 * row] = mean;
        output[2 * row + 1] = factor;
    }
}

/// A workgroup takes [`COLUMNS`] columns, and each of its lanes every [`LANES`]-th row.
#[cube(launch_unchecked)]
fn of_parameters<F: Float>(
    x: &[F],
    grad: &[F],
    statistics: &[f32],
    of_gamma: &mut [F],
    of_beta: &mut [F],
    #[define(F)] _dtype: ElemType,
) {
    let d = of_gamma.len();
    let column = CUBE_POS * COLUMNS as usize + UNIT_POS_X as usize;
    let mut gamma = 0.0f32;
    let mut beta = 0.0f32;
    if column < d {
        let mut row = UNIT_POS_Y as usize;
        while 2 * row < statistics.len() {
            let at = row * d + column;
            let grad = f32::cast_from(grad[at]);
            let value = f32::cast_from(x[at]) - statistics[2 * row];
            gamma += grad * value * statistics[2 * row + 1];
            beta += grad;
            row += LANES as usize;
        }
    }
    let gamma = sum_of_lanes(gamma);
    let beta = sum_of_lanes(beta);
    if UNIT_POS_Y == 0 && column < d {
        of_gamma[column] = F::cast_from(gamma);
        of_beta[column] = F::cast_from(beta);
    }
}

impl LayerNormGpu for CubeBackend {
    fn layer_norm_gpu(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: Optional<Self>,
        epsilon: f32,
    ) -> CubeTensor {
        let (x, gamma) = (contiguous(x), contiguous(gamma));
        let beta = beta.given().map(contiguous);
        let [rows, d] = x.shape().dims();
        let (output, units) = (empty_like(&x), units_of_row(d));
        // SAFETY: units go no further than the ends of `x` and `gamma`; `output` is as long as `x`.
        unsafe {
            forward::launch_unchecked(
                &x.client,
                cubes(rows),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&gamma),
                buffer(beta.as_ref().unwrap_or(&gamma)),
                buffer(&output),
                d as u32,
                epsilon,
                beta.is_some(),
                units,
                elem(&x),
            );
        }
        output
    }
}

impl LayerNormGradients for CubeBackend {
    fn layer_norm_gpu_x(
        x: CubeTensor,
        gamma: CubeTensor,
        grad: CubeTensor,
        epsilon: f32,
    ) -> CubeTensor {
        let [x, gamma, grad] = [x, gamma, grad].map(contiguous);
        let [rows, d] = x.shape().dims();
        let (output, units) = (empty_like(&x), units_of_row(d));
        // SAFETY: as in the forward pass; `grad` is as long as `x`.
        unsafe {
            of_x::launch_unchecked(
                &x.client,
                cubes(rows),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&gamma),
                buffer(&grad),
                buffer(&output),
                d as u32,
                epsilon,
                units,
                elem(&x),
            );
        }
        output
    }

    fn layer_norm_gpu_parameters(
        x: CubeTensor,
        gamma: CubeTensor,
        grad: CubeTensor,
        epsilon: f32,
    ) -> (CubeTensor, CubeTensor) {
        let [x, grad] = [x, grad].map(contiguous);
        let [rows, d] = x.shape().dims();
        let units = units_of_row(d);
        let statistics = empty(&x, [rows, 2], DType::F32);
        let gradients = [(); 2].map(|()| empty(&x, [d], gamma.dtype));
        let (of_columns, lanes) = columns(d);
        // SAFETY: `statistics` has two values a row, and a gradient one a column, which is checked.
        unsafe {
            all_statistics::launch_unchecked(
                &x.client,
                cubes(rows),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&statistics),
                d as u32,
                epsilon,
                units,
                elem(&x),
            );
            of_parameters::launch_unchecked(
                &x.client,
                of_columns,
                lanes,
                buffer(&x),
                buffer(&grad),
                buffer(&statistics),
                buffer(&gradients[0]),
                buffer(&gradients[1]),
                elem(&x),
            );
        }
        gradients.into()
    }
}

impl<B: LayerNormGpu + LayerNormGradients, C: CheckpointStrategy> LayerNormGpu for Autodiff<B, C> {
    fn layer_norm_gpu(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: Optional<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let beta = beta.given();
        // In the place of a missing bias, any tensor that is not tracked would do.
        let of_beta = beta.as_ref().map(|beta| beta.node());
        let untracked = || FloatTensor::<Self>::new(gamma.primitive().clone()).node();
        let nodes = [x.node(), gamma.node(), of_beta.unwrap_or_else(untracked)];
        let prepared = LayerNormBackward.prepare::<C>(nodes);
        let (x, gamma) = (x.into_primitive(), gamma.into_primitive());
        let beta = Optional::new(beta.map(|beta| beta.into_primitive()));
        let output = B::layer_norm_gpu(x.clone(), gamma.clone(), beta, epsilon);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, gamma, epsilon), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: LayerNormGradients> Backward<B, 3> for LayerNormBackward {
    /// `x`, `gamma`, `epsilon`.
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_gamma, of_beta] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, gamma, epsilon) = ops.state;
        if of_gamma.is_some() || of_beta.is_some() {
            let parts = (x.clone(), gamma.clone(), grad.clone());
            let (of, bias) = B::layer_norm_gpu_parameters(parts.0, parts.1, parts.2, epsilon);
            for (node, gradient) in [(of_gamma, of), (of_beta, bias)] {
                if let Some(node) = node {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::layer_norm_gpu_x(x, gamma, grad, epsilon));
        }
    }
}
