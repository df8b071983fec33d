//! The approximate GELU.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, activation};

use crate::cpu::elementwise;
use crate::flex::{contiguous, takes, tensor_of, values};

/// The approximate GELU of every value, `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`
/// (arXiv 1606.08415; transformers' `gelu_new` and `gelu_pytorch_tanh`), `[tokens, d]`.
///
/// The specialised body keeps its input only.
pub fn gelu_approximate(x: Tensor<2>) -> Tensor<2> {
    if !takes(&x) {
        return activation::gelu_approximate(x);
    }
    Tensor::from_dispatch(Dispatch::gelu_kernel(x.into_dispatch()))
}

#[backend_extension(Flex, Autodiff)]
trait GeluKernel: Backend {
    fn gelu_kernel(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GeluKernel for Flex {
    fn gelu_kernel(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let [rows, d] = x.shape().dims();
        let x = contiguous(x);
        tensor_of(elementwise::gelu(values(&x)), [rows, d])
    }
}

impl<C: CheckpointStrategy> GeluKernel for Autodiff<Flex, C> {
    fn gelu_kernel(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let x = contiguous(x.into_primitive());
                prepared.finish(x.clone(), Flex::gelu_kernel(x))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::gelu_kernel(x.into_primitive())),
        }
    }
}

#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        if let Some(node) = x {
            let [rows, d] = ops.state.shape().dims();
            let gradient = elementwise::gelu_backward(values(&ops.state), values(&grad));
            grads.register::<Flex>(node.id, tensor_of(gradient, [rows, d]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    #[test]
    fn equals_the_plain_body() {
        for shape in [[1, 1], [3, 7], [33, 129], [70, 300]] {
            assert_same_gradients(
                &[random(shape, 3.0)],
                |[x]| gelu_approximate(x),
                |[x]| activation::gelu_approximate(x),
            );
        }
    }
}
