//! The gate of a feed-forward network on GPUs: one launch in each pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::curve::{slope, value};
use super::launch::{buffer, contiguous, elem, empty, empty_like, units};
use crate::cpu::ActivationKind;

/// As [`glu`](crate::glu).
pub(crate) fn glu(gate: Tensor<2>, up: Tensor<2>, kind: ActivationKind) -> Tensor<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(Dispatch::glu_gpu(gate, up, kind))
}

/// As [`packed_glu`](crate::packed_glu).
pub(crate) fn packed_glu(gate_up: Tensor<2>, kind: ActivationKind) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::packed_glu_gpu(gate_up.into_dispatch(), kind))
}

fn half(shape: &Shape) -> Shape {
    let [rows, width] = shape.dims();
    Shape::new([rows, width / 2])
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait GluGpu: Backend {
    #[fusion(dtype = gate, shape = gate)]
    fn glu_gpu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        kind: ActivationKind,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = gate_up, shape = half(gate_up))]
    fn packed_glu_gpu(gate_up: FloatTensor<Self>, kind: ActivationKind) -> FloatTensor<Self>;
}

#[backend_extension(Cube, Fusion)]
trait GluGradients: Backend {
    /// The gradients of `gate` and `up`.
    #[fusion(meta = |gate, up, _grad, _kind| -> (TensorSpec, TensorSpec) { (gate.clone(), up.clone()) })]
    fn glu_gpu_gradients(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kind: ActivationKind,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(dtype = gate_up, shape = gate_up)]
    fn packed_glu_gpu_gradient(
        gate_up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        kind: ActivationKind,
    ) -> FloatTensor<Self>;
}

#[cube(launch_unchecked)]
fn forward<F: Float>(
    gate: &[F],
    up: &[F],
    output: &mut [F],
    #[comptime] kind: ActivationKind,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let gate = value(f32::cast_from(gate[ABSOLUTE_POS]), kind);
    output[ABSOLUTE_POS] = F::cast_from(gate * f32::cast_from(up[ABSOLUTE_POS]));
}

#[cube(launch_unchecked)]
fn packed_forward<F: Float>(
    gate_up: &[F],
    output: &mut [F],
    inner: u32,
    #[comptime] kind: ActivationKind,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let inner = inner as usize;
    let at = ABSOLUTE_POS / inner * inner + ABSOLUTE_POS;
    let gate = value(f32::cast_from(gate_up[at]), kind);
    output[ABSOLUTE_POS] = F::cast_from(gate * f32::cast_from(gate_up[at + inner]));
}

#[cube(launch_unchecked)]
fn backward<F: Float>(
    gate: &[F],
    up: &[F],
    grad: &[F],
    of_gate: &mut [F],
    of_up: &mut [F],
    #[comptime] kind: ActivationKind,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= grad.len() {
        terminate!();
    }
    let gate = f32::cast_from(gate[ABSOLUTE_POS]);
    let grad = f32::cast_from(grad[ABSOLUTE_POS]);
    let of = grad * f32::cast_from(up[ABSOLUTE_POS]) * slope(gate, kind);
    of_gate[ABSOLUTE_POS] = F::cast_from(of);
    of_up[ABSOLUTE_POS] = F::cast_from(grad * value(gate, kind));
}

#[cube(launch_unchecked)]
fn packed_backward<F: Float>(
    gate_up: &[F],
    grad: &[F],
    of_both: &mut [F],
    inner: u32,
    #[comptime] kind: ActivationKind,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= grad.len() {
        terminate!();
    }
    let inner = inner as usize;
    let at = ABSOLUTE_POS / inner * inner + ABSOLUTE_POS;
    let gate = f32::cast_from(gate_up[at]);
    let grad = f32::cast_from(grad[ABSOLUTE_POS]);
    let of = grad * f32::cast_from(gate_up[at + inner]) * slope(gate, kind);
    of_both[at] = F::cast_from(of);
    of_both[at + inner] = F::cast_from(grad * value(gate, kind));
}

impl GluGpu for CubeBackend {
    fn glu_gpu(gate: CubeTensor, up: CubeTensor, kind: ActivationKind) -> CubeTensor {
        let (gate, up) = (contiguous(gate), contiguous(up));
        let (output, (cubes, units)) = (empty_like(&gate), units(gate.shape().num_elements()));
        let (client, dtype) = (&gate.client, elem(&gate));
        // SAFETY: all are of one length, which is checked.
        unsafe {
            let (gate, up, output) = (buffer(&gate), buffer(&up), buffer(&output));
            forward::launch_unchecked(client, cubes, units, gate, up, output, kind, dtype);
        }
        output
    }

    fn packed_glu_gpu(gate_up: CubeTensor, kind: ActivationKind) -> CubeTensor {
        let gate_up = contiguous(gate_up);
        let [rows, width] = gate_up.shape().dims();
        let (inner, dtype) = (width / 2, elem(&gate_up));
        let output = empty(&gate_up, [rows, inner], gate_up.dtype);
        let ((cubes, units), client) = (units(rows * inner), &gate_up.client);
        let (from, to) = (buffer(&gate_up), buffer(&output));
        // SAFETY: the length of `output` is checked, and `gate_up` is twice as long.
        unsafe {
            packed_forward::launch_unchecked(
                client,
                cubes,
                units,
                from,
                to,
                inner as u32,
                kind,
                dtype,
            );
        }
        output
    }
}

impl GluGradients for CubeBackend {
    fn glu_gpu_gradients(
        gate: CubeTensor,
        up: CubeTensor,
        grad: CubeTensor,
        kind: ActivationKind,
    ) -> (CubeTensor, CubeTensor) {
        let [gate, up, grad] = [gate, up, grad].map(contiguous);
        let gradients = (empty_like(&gate), empty_like(&up));
        let (cubes, units) = units(gate.shape().num_elements());
        // SAFETY: all are of one length, which is checked.
        unsafe {
            backward::launch_unchecked(
                &gate.client,
                cubes,
                units,
                buffer(&gate),
                buffer(&up),
                buffer(&grad),
                buffer(&gradients.0),
                buffer(&gradients.1),
                kind,
                elem(&gate),
            );
        }
        gradients
    }

    fn packed_glu_gpu_gradient(
        gate_up: CubeTensor,
        grad: CubeTensor,
        kind: ActivationKind,
    ) -> CubeTensor {
        let (gate_up, grad) = (contiguous(gate_up), contiguous(grad));
        let [rows, inner] = grad.shape().dims();
        let (output, (cubes, units)) = (empty_like(&gate_up), units(rows * inner));
        // SAFETY: the length of `grad` is checked, and the others are twice as long.
        unsafe {
            packed_backward::launch_unchecked(
                &gate_up.client,
                cubes,
                units,
                buffer(&gate_up),
                buffer(&grad),
                buffer(&output),
                inner as u32,
                kind,
                elem(&gate_up),
            );
        }
        output
    }
}

impl<B: GluGpu + GluGradients, C: CheckpointStrategy> GluGpu for Autodiff<B, C> {
    fn glu_gpu(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        kind: ActivationKind,
    ) -> FloatTensor<Self> {
        let prepared = GluBackward.prepare::<C>([gate.node(), up.node()]);
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        let output = B::glu_gpu(gate.clone(), up.clone(), kind);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((gate, up, kind), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn packed_glu_gpu(gate_up: FloatTensor<Self>, kind: ActivationKind) -> FloatTensor<Self> {
        let prepared = PackedGluBackward.prepare::<C>([gate_up.node()]);
        let gate_up = gate_up.into_primitive();
        let output = B::packed_glu_gpu(gate_up.clone(), kind);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((gate_up, kind), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct GluBackward;

impl<B: GluGradients> Backward<B, 2> for GluBackward {
    /// `gate`, `up` and the kind.
    type State = (FloatTensor<B>, FloatTensor<B>, ActivationKind);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up, kind) = ops.state;
        let [of_gate, of_up] = ops.parents;
        let (gate, up) = B::glu_gpu_gradients(gate, up, grad, kind);
        for (node, gradient) in [(of_gate, gate), (of_up, up)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct PackedGluBackward;

impl<B: GluGradients> Backward<B, 1> for PackedGluBackward {
    /// Gate and up in one tensor, and the kind.
    type State = (FloatTensor<B>, ActivationKind);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let (gate_up, kind) = ops.state;
            let gradient = B::packed_glu_gpu_gradient(gate_up, grad, kind);
            grads.register::<B>(node.id, gradient);
        }
    }
}
