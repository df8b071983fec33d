//! The layer norm and the root-mean-square norm on GPUs: a workgroup a row.

mod kernels;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension,
};
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use self::kernels::{all_statistics, forward, of_parameters, of_x};
use super::launch::{buffer, contiguous, cubes, elem, empty, empty_like, units_of_row};
use super::reduce::columns;

/// As [`layer_norm`](crate::layer_norm). The backward pass keeps `x` and computes the statistics of
/// its rows again.
pub(crate) fn layer_norm(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<2> {
    let norm = Norm {
        centres: true,
        epsilon: epsilon as f32,
        offset: 0.0,
    };
    row_norm(x, gamma, beta, norm)
}

/// As [`rms_norm`](crate::rms_norm). The backward pass keeps `x` and computes the statistics of its
/// rows again.
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64, offset: f64) -> Tensor<2> {
    let norm = Norm {
        centres: false,
        epsilon: epsilon as f32,
        offset: offset as f32,
    };
    row_norm(x, weight, None, norm)
}

fn row_norm(x: Tensor<2>, weight: Tensor<1>, bias: Option<Tensor<1>>, norm: Norm) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let parameters = Parameters::new(weight, bias.map(Tensor::into_dispatch));
    Tensor::from_dispatch(Dispatch::row_norm_gpu(x, parameters, norm))
}

/// Which norm it is.
#[derive(Clone, Copy, Debug)]
struct Norm {
    /// Whether a row's mean is taken from it.
    centres: bool,
    epsilon: f32,
    /// What is added to the weight.
    offset: f32,
}

/// What rows are multiplied by and what is added to them, or their gradients.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
enum Parameters<B: Backend> {
    Weight(FloatTensor<B>),
    WithBias(FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend> Parameters<B> {
    fn new(weight: FloatTensor<B>, bias: Option<FloatTensor<B>>) -> Self {
        match bias {
            Some(bias) => Parameters::WithBias(weight, bias),
            None => Parameters::Weight(weight),
        }
    }

    fn parts(self) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
        match self {
            Parameters::Weight(weight) => (weight, None),
            Parameters::WithBias(weight, bias) => (weight, Some(bias)),
        }
    }
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait RowNorm: Backend {
    #[fusion(dtype = x, shape = x)]
    fn row_norm_gpu(
        x: FloatTensor<Self>,
        #[extension_type] parameters: Parameters<Self>,
        norm: Norm,
    ) -> FloatTensor<Self>;
}

#[backend_extension(Cube, Fusion)]
trait RowNormGradients: Backend {
    /// The gradient of `x`.
    #[fusion(dtype = x, shape = x)]
    fn row_norm_gpu_x(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self>;

    /// The gradients of the parameters, of which only shapes and types are read.
    #[fusion(meta = |_x, parameters, _grad, _norm| parameters.clone())]
    fn row_norm_gpu_parameters(
        x: FloatTensor<Self>,
        #[extension_type] parameters: Parameters<Self>,
        grad: FloatTensor<Self>,
        norm: Norm,
    ) -> Parameters<Self>;
}

/// How many rows of `d` values there are.
fn rows(x: &CubeTensor, d: usize) -> usize {
    x.shape().num_elements() / d
}

impl RowNorm for CubeBackend {
    fn row_norm_gpu(x: CubeTensor, parameters: Parameters<Self>, norm: Norm) -> CubeTensor {
        let (weight, bias) = parameters.parts();
        let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
        let [d] = weight.shape().dims();
        let (output, units) = (empty_like(&x), units_of_row(d));
        // SAFETY: no unit reads beyond the ends of `x` and the parameters; `output` is as long as `x`.
        unsafe {
            forward::launch_unchecked(
                &x.client,
                cubes(rows(&x, d)),
                CubeDim::new_1d(units),
                buffer(&x),
                buffer(&weight),
                buffer(bias.as_ref().unwrap_or(&weight)),
                buffer(&output),
                d as u32,
                norm.epsilon,
                norm.offset,
                norm.centres,
                bias.is_some(),
                units,
                elem(&x),
            );
        }
        output
    }
}

impl RowNormGradients for CubeBackend {
    fn row_norm_gpu_x(
        x: CubeTensor,
        weight: CubeTensor,
        grad: CubeTensor,
        norm: Norm,
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
                norm.epsilon,
                norm.offset,
                norm.centres,
                units,
                elem(&x),
            );
        }
        output
    }

    fn row_norm_gpu_parameters(
        x: CubeTensor,
        parameters: Parameters<Self>,
        grad: CubeTensor,
        norm: Norm,
    ) -> Parameters<Self> {
        let [x, grad] = [x, grad].map(contiguous);
        let (weight, bias) = parameters.parts();
        let [d] = weight.shape().dims();
        let (rows, units) = (rows(&x, d), units_of_row(d));
        let statistics = empty(&x, [rows, 2], DType::F32);
        let of_weight = empty(&x, [d], weight.dtype);
        let of_bias = bias.map(|bias| empty(&x, [d], bias.dtype));
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
                norm.epsilon,
                norm.centres,
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
                buffer(&of_weight),
                buffer(of_bias.as_ref().unwrap_or(&of_weight)),
                of_bias.is_some(),
                elem(&x),
            );
        }
        Parameters::new(of_weight, of_bias)
    }
}

impl<B: RowNorm + RowNormGradients, C: CheckpointStrategy> RowNorm for Autodiff<B, C> {
    fn row_norm_gpu(
        x: FloatTensor<Self>,
        parameters: Parameters<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        let (weight, bias) = parameters.parts();
        // In the place of a missing bias, any tensor that is not tracked would do.
        let untracked = || FloatTensor::<Self>::new(weight.primitive().clone()).node();
        let of_bias = bias.as_ref().map_or_else(untracked, |bias| bias.node());
        let prepared = RowNormBackward.prepare::<C>([x.node(), weight.node(), of_bias]);
        let bias = bias.map(|bias| bias.into_primitive());
        let parameters = Parameters::new(weight.into_primitive(), bias);
        let x = x.into_primitive();
        let output = B::row_norm_gpu(x.clone(), parameters.clone(), norm);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, parameters, norm), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct RowNormBackward;

impl<B: RowNormGradients> Backward<B, 3> for RowNormBackward {
    type State = (FloatTensor<B>, Parameters<B>, Norm);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight, of_bias] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, parameters, norm) = ops.state;
        if of_weight.is_some() || of_bias.is_some() {
            let (x, parameters) = (x.clone(), parameters.clone());
            let gradients = B::row_norm_gpu_parameters(x, parameters, grad.clone(), norm);
            let (weight, bias) = gradients.parts();
            for (node, gradient) in [(of_weight, Some(weight)), (of_bias, bias)] {
                if let (Some(node), Some(gradient)) = (node, gradient) {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
        if let Some(node) = of_x {
            let (weight, _) = parameters.parts();
            grads.register::<B>(node.id, B::row_norm_gpu_x(x, weight, grad, norm));
        }
    }
}
