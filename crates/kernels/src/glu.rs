//! The gate of a feed-forward network.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use crate::activation;
use crate::cpu::ActivationKind;
use crate::cpu::glu as cpu;
use crate::flex::{OnTape, Optional, contiguous, or_constant, takes, tensor_of, values};
use crate::kept::Kept;
use crate::remade::{Remade, can_remake};

/// `activation(gate) · up`, value by value (SwiGLU and its relatives, arXiv 2002.05202): all are
/// `[tokens, inner]`. `next` is the type of the weight that the output is multiplied with.
///
/// The specialised body keeps only its inputs for the gradient, in bf16 if `next` is, otherwise in
/// 32 bits. They are the largest part of what a block keeps, and rounding them matters little where
/// the products that follow round to bf16 too.
///
/// # Panics
/// If `gate` and `up` have different shapes.
pub fn glu(gate: Tensor<2>, up: Tensor<2>, activation: ActivationKind, next: DType) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "gate and up");
    #[cfg(feature = "gpu")]
    if crate::gpu::takes_both(&gate, &up) {
        return crate::gpu::glu(gate, up, activation);
    }
    if !(takes(&gate) && takes(&up)) {
        return plain(gate, up, activation);
    }
    let (gate, up) = (gate.into_dispatch(), Optional::of(Some(up)));
    let call = Call::new(activation, next);
    Tensor::from_dispatch(Dispatch::glu_kernel(gate, up, call))
}

/// As [`glu`], for one tensor `[tokens, 2 · inner]` whose first half is `gate` (Phi-3 and GLM-4,
/// `gate_up_proj`).
///
/// # Panics
/// If the width is odd.
pub fn packed_glu(gate_up: Tensor<2>, activation: ActivationKind, next: DType) -> Tensor<2> {
    let [_, width] = gate_up.dims();
    assert_eq!(width % 2, 0, "{width} channels of gate and up");
    #[cfg(feature = "gpu")]
    if crate::gpu::takes(&gate_up) {
        return crate::gpu::packed_glu(gate_up, activation);
    }
    if !takes(&gate_up) {
        return packed_plain(gate_up, activation);
    }
    let gate_up = gate_up.into_dispatch();
    let call = Call::new(activation, next);
    Tensor::from_dispatch(Dispatch::glu_kernel(gate_up, Optional::Missing, call))
}

fn plain(gate: Tensor<2>, up: Tensor<2>, activation: ActivationKind) -> Tensor<2> {
    activation::plain(gate, activation) * up
}

fn packed_plain(gate_up: Tensor<2>, activation: ActivationKind) -> Tensor<2> {
    let [tokens, width] = gate_up.dims();
    let [gate, up] =
        [0..width / 2, width / 2..width].map(|columns| gate_up.clone().slice([0..tokens, columns]));
    plain(gate, up, activation)
}

/// The arguments that are not tensors.
#[derive(Clone, Copy, Debug)]
struct Call {
    activation: ActivationKind,
    keeps_narrow: bool,
}

impl Call {
    fn new(activation: ActivationKind, next: DType) -> Self {
        Self {
            activation,
            keeps_narrow: next == DType::BF16,
        }
    }
}

/// Gate and up, or both in one tensor, as they are kept, and the shape of one tensor.
#[derive(Clone, Debug)]
struct State {
    gate: Kept,
    up: Option<Kept>,
    shape: [usize; 2],
    activation: ActivationKind,
}

impl State {
    fn output(&self) -> Vec<f32> {
        let gate = self.gate.values();
        match &self.up {
            Some(up) => cpu::glu(self.activation, gate, up.values()),
            None => cpu::packed_glu(self.activation, gate, self.shape[1] / 2),
        }
    }
}

#[backend_extension(Flex, Autodiff)]
trait GluKernel: Backend {
    fn glu_kernel(
        gate: FloatTensor<Self>,
        #[extension_type] up: Optional<Self>,
        call: Call,
    ) -> FloatTensor<Self>;
}

impl GluKernel for Flex {
    fn glu_kernel(gate: FloatTensor<Self>, up: Optional<Self>, call: Call) -> FloatTensor<Self> {
        let shape @ [rows, width] = gate.shape().dims();
        let up = up.given().map(|up| Kept::new(up, false));
        let inner = if up.is_some() { width } else { width / 2 };
        let state = State {
            gate: Kept::new(gate, false),
            up,
            shape,
            activation: call.activation,
        };
        tensor_of(state.output(), [rows, inner])
    }
}

impl<C: CheckpointStrategy> GluKernel for Autodiff<Flex, C> {
    fn glu_kernel(gate: FloatTensor<Self>, up: Optional<Self>, call: Call) -> FloatTensor<Self> {
        let up: Option<OnTape<C>> = up.given();
        let inner_up = up.as_ref().map(|up| up.primitive().clone());
        let nodes = [gate.node(), or_constant::<C>(up).node()];
        let gate = gate.into_primitive();
        match GluBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, kept) = output_and_kept(gate, inner_up, call);
                let again = Remade::new({
                    let kept = kept.clone();
                    move || kept.output()
                });
                let output = prepared.finish((kept, again.clone()), output);
                can_remake::<C>(&output, &again);
                output
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::glu_kernel(gate, Optional::new(inner_up), call))
            }
        }
    }
}

/// The output, and what is kept for its gradient.
fn output_and_kept(
    gate: FloatTensor<Flex>,
    up: Option<FloatTensor<Flex>>,
    call: Call,
) -> (FloatTensor<Flex>, State) {
    let shape = gate.shape().dims();
    let state = |gate, up| State {
        gate,
        up,
        shape,
        activation: call.activation,
    };
    match up {
        Some(up) if call.keeps_narrow => {
            let (gate, up) = (contiguous(gate), contiguous(up));
            let (output, bits) = cpu::glu_narrowing(call.activation, values(&gate), values(&up));
            let [gate, up] = bits.map(|bits| Kept::Narrow(Arc::new(bits)));
            (tensor_of(output, shape), state(gate, Some(up)))
        }
        up => {
            let output = Flex::glu_kernel(gate.clone(), Optional::new(up.clone()), call);
            let narrow = call.keeps_narrow;
            let kept = state(Kept::new(gate, narrow), up.map(|up| Kept::new(up, narrow)));
            (output, kept)
        }
    }
}

#[derive(Debug)]
struct GluBackward;

impl Backward<Flex, 2> for GluBackward {
    /// The inputs, and what recomputes the output.
    type State = (State, Arc<Remade>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_gate, of_up] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (kept, _) = ops.state;
        let (activation, gate, grad) = (kept.activation, kept.gate.values(), values(&grad));
        let gradients = match &kept.up {
            Some(up) => {
                let [gate, up] = cpu::glu_backward(activation, gate, up.values(), grad);
                vec![(of_gate, gate), (of_up, up)]
            }
            None => {
                let inner = kept.shape[1] / 2;
                let both = cpu::packed_glu_backward(activation, gate, grad, inner);
                vec![(of_gate, both)]
            }
        };
        for (node, gradient) in gradients {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor_of(gradient, kept.shape));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ACTIVATIONS, assert_same_gradients, away_from_zero, random};

    #[test]
    fn equals_the_plain_body() {
        for kind in ACTIVATIONS {
            for [rows, inner] in [[1, 1], [3, 7], [33, 129], [70, 300]] {
                assert_same_gradients(
                    &[away_from_zero([rows, inner]), random([rows, inner], 1.0)],
                    |[gate, up]| glu(gate, up, kind, DType::F32),
                    |[gate, up]| plain(gate, up, kind),
                );
                assert_same_gradients(
                    &[away_from_zero([rows, 2 * inner])],
                    |[gate_up]| packed_glu(gate_up, kind, DType::F32),
                    |[gate_up]| packed_plain(gate_up, kind),
                );
            }
        }
    }

    /// Keeping inputs in bf16 changes gradients by no more than the rounding, and leaves the output
    /// as it is.
    #[test]
    fn keeps_its_inputs_in_bf16() {
        let inputs = [random([40, 120], 2.0), random([40, 120], 1.0)];
        let [gate, up] = inputs.map(|input| input.autodiff().require_grad());
        let both = Tensor::cat(vec![gate.clone().inner(), up.clone().inner()], 1);
        let both = both.autodiff().require_grad();
        let run = |next| {
            let apart = glu(gate.clone(), up.clone(), ActivationKind::Silu, next);
            let packed = packed_glu(both.clone(), ActivationKind::Silu, next);
            let gradients = (apart.clone() + packed).sum().backward();
            let of = |input: &Tensor<2>| input.grad(&gradients).unwrap();
            [apart.inner(), of(&gate), of(&up), of(&both)]
        };
        let (wide, narrow) = (run(DType::F32), run(DType::BF16));
        for (index, (wide, narrow)) in wide.into_iter().zip(narrow).enumerate() {
            let size = wide.clone().abs().max().into_scalar::<f32>();
            let difference = (wide - narrow).abs().max().into_scalar::<f32>();
            assert!(difference < size / 100.0, "{index}: {difference} of {size}");
            assert_eq!(difference == 0.0, index == 0, "{index}");
        }
    }

    crate::testing::on_gpu_too!();
}
