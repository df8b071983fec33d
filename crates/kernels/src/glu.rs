//! The gate of a feed-forward network.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use crate::activation;
use crate::cpu::ActivationKind;
use crate::cpu::activation as cpu;
use crate::flex::{OnTape, Optional, contiguous, or_constant, takes, tensor_of, values};
use crate::remade::{Remade, can_remake};

/// `activation(gate) · up`, value by value (SwiGLU and its kin, arXiv 2002.05202): all are
/// `[tokens, inner]`.
///
/// The specialised body keeps its inputs only.
pub fn glu(gate: Tensor<2>, up: Tensor<2>, activation: ActivationKind) -> Tensor<2> {
    if !(takes(&gate) && takes(&up)) {
        return plain(gate, up, activation);
    }
    let up = Optional::of(Some(up));
    Tensor::from_dispatch(Dispatch::glu_kernel(gate.into_dispatch(), up, activation))
}

/// As [`glu`], of one tensor `[tokens, 2 · inner]` whose first half is `gate` (Phi-3 and GLM-4,
/// `gate_up_proj`).
pub fn packed_glu(gate_up: Tensor<2>, activation: ActivationKind) -> Tensor<2> {
    if !takes(&gate_up) {
        return packed_plain(gate_up, activation);
    }
    let gate_up = gate_up.into_dispatch();
    Tensor::from_dispatch(Dispatch::glu_kernel(gate_up, Optional::Missing, activation))
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

#[backend_extension(Flex, Autodiff)]
trait GluKernel: Backend {
    fn glu_kernel(
        gate: FloatTensor<Self>,
        #[extension_type] up: Optional<Self>,
        activation: ActivationKind,
    ) -> FloatTensor<Self>;
}

/// The output's values, of contiguous inputs.
fn output(
    gate: &FloatTensor<Flex>,
    up: Option<&FloatTensor<Flex>>,
    activation: ActivationKind,
) -> Vec<f32> {
    let [_, width] = gate.shape().dims();
    match up {
        Some(up) => cpu::glu(activation, values(gate), values(up)),
        None => cpu::packed_glu(activation, values(gate), width / 2),
    }
}

impl GluKernel for Flex {
    fn glu_kernel(
        gate: FloatTensor<Self>,
        up: Optional<Self>,
        activation: ActivationKind,
    ) -> FloatTensor<Self> {
        let (gate, up) = (contiguous(gate), up.given().map(contiguous));
        let [rows, width] = gate.shape().dims();
        let inner = if up.is_some() { width } else { width / 2 };
        tensor_of(output(&gate, up.as_ref(), activation), [rows, inner])
    }
}

impl<C: CheckpointStrategy> GluKernel for Autodiff<Flex, C> {
    fn glu_kernel(
        gate: FloatTensor<Self>,
        up: Optional<Self>,
        activation: ActivationKind,
    ) -> FloatTensor<Self> {
        let up: Option<OnTape<C>> = up.given();
        let inner_up = up.as_ref().map(|up| contiguous(up.primitive().clone()));
        let nodes = [gate.node(), or_constant::<C>(up).node()];
        let gate = contiguous(gate.into_primitive());
        let made = Flex::glu_kernel(gate.clone(), Optional::new(inner_up.clone()), activation);
        match GluBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let again = Remade::new({
                    let (gate, up) = (gate.clone(), inner_up.clone());
                    move || output(&gate, up.as_ref(), activation)
                });
                let state = (gate, inner_up, activation, again.clone());
                let made = prepared.finish(state, made);
                can_remake::<C>(&made, &again);
                made
            }
            OpsKind::UnTracked(prepared) => prepared.finish(made),
        }
    }
}

#[derive(Debug)]
struct GluBackward;

impl Backward<Flex, 2> for GluBackward {
    /// `gate`, `up`, the kind of the activation, and what makes the output again.
    type State = (
        FloatTensor<Flex>,
        Option<FloatTensor<Flex>>,
        ActivationKind,
        Arc<Remade>,
    );

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_gate, of_up] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (gate, up, activation, _) = ops.state;
        let [rows, width] = gate.shape().dims();
        let (gate, grad) = (values(&gate), values(&grad));
        let gradients = match up {
            Some(up) => {
                let [gate, up] = cpu::glu_backward(activation, gate, values(&up), grad);
                [(of_gate, gate), (of_up, up)].to_vec()
            }
            None => {
                let both = cpu::packed_glu_backward(activation, gate, grad, width / 2);
                [(of_gate, both)].to_vec()
            }
        };
        for (node, gradient) in gradients {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor_of(gradient, [rows, width]));
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
                    |[gate, up]| glu(gate, up, kind),
                    |[gate, up]| plain(gate, up, kind),
                );
                assert_same_gradients(
                    &[away_from_zero([rows, 2 * inner])],
                    |[gate_up]| packed_glu(gate_up, kind),
                    |[gate_up]| packed_plain(gate_up, kind),
                );
            }
        }
    }
}
