//! Activation functions on GPUs: one launch in each pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::curve::{slope, value};
use super::launch::{buffer, contiguous, elem, empty_like, units};
use crate::cpu::ActivationKind;

/// As [`activate`](crate::activate); the backward pass keeps only the input.
pub(crate) fn activate(x: Tensor<2>, kind: ActivationKind) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::activation_gpu(x.into_dispatch(), kind))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait ActivationGpu: Backend {
    #[fusion(dtype = x, shape = x)]
    fn activation_gpu(x: FloatTensor<Self>, kind: ActivationKind) -> FloatTensor<Self>;
}

#[backend_extension(Cube, Fusion)]
trait ActivationGradient: Backend {
    #[fusion(dtype = x, shape = x)]
    fn activation_gpu_x(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kind: ActivationKind,
    ) -> FloatTensor<Self>;
}

#[cube(launch_unchecked)]
fn forward<F: Float>(
    x: &[F],
    output: &mut [F],
    #[comptime] kind: ActivationKind,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    output[ABSOLUTE_POS] = F::cast_from(value(f32::cast_from(x[ABSOLUTE_POS]), kind));
}

#[cube(launch_unchecked)]
fn of_x<F: Float>(
    x: &[F],
    grad: &[F],
    output: &mut [F],
    #[comptime] kind: ActivationKind,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let slope = slope(f32::cast_from(x[ABSOLUTE_POS]), kind);
    output[ABSOLUTE_POS] = F::cast_from(f32::cast_from(grad[ABSOLUTE_POS]) * slope);
}

impl ActivationGpu for CubeBackend {
    fn activation_gpu(x: CubeTensor, kind: ActivationKind) -> CubeTensor {
        let x = contiguous(x);
        let (output, (cubes, units)) = (empty_like(&x), units(x.shape().num_elements()));
        // SAFETY: both are of one length, which is checked.
        unsafe {
            let (from, to) = (buffer(&x), buffer(&output));
            forward::launch_unchecked(&x.client, cubes, units, from, to, kind, elem(&x));
        }
        output
    }
}

impl ActivationGradient for CubeBackend {
    fn activation_gpu_x(x: CubeTensor, grad: CubeTensor, kind: ActivationKind) -> CubeTensor {
        let (x, grad) = (contiguous(x), contiguous(grad));
        let (output, (cubes, units)) = (empty_like(&x), units(x.shape().num_elements()));
        // SAFETY: all are of one length, which is checked.
        unsafe {
            let (from, grad, to) = (buffer(&x), buffer(&grad), buffer(&output));
            of_x::launch_unchecked(&x.client, cubes, units, from, grad, to, kind, elem(&x));
        }
        output
    }
}

impl<B, C> ActivationGpu for Autodiff<B, C>
where
    B: ActivationGpu + ActivationGradient,
    C: CheckpointStrategy,
{
    fn activation_gpu(x: FloatTensor<Self>, kind: ActivationKind) -> FloatTensor<Self> {
        let prepared = ActivationBackward.prepare::<C>([x.node()]);
        let x = x.into_primitive();
        let output = B::activation_gpu(x.clone(), kind);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, kind), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct ActivationBackward;

impl<B: ActivationGradient> Backward<B, 1> for ActivationBackward {
    /// `x` and the kind.
    type State = (FloatTensor<B>, ActivationKind);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let (x, kind) = ops.state;
            grads.register::<B>(node.id, B::activation_gpu_x(x, grad, kind));
        }
    }
}
