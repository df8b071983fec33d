//! A feed-forward network with the approximate GELU.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor};

use crate::cpu::feed_forward::Network;
use crate::cpu::product::PackedLeft;
use crate::flex::{
    OnTape, Optional, contiguous, is_trained, matrix, or_constant, readable, takes, takes_weight,
    tensor_of, values, weight as view,
};
use crate::{ActivationKind, activate, linear};

/// Two linear layers.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// `[d, inner]`.
    pub up: Tensor<2>,
    /// `[inner]`.
    pub up_bias: Option<Tensor<1>>,
    /// `[inner, d]`.
    pub down: Tensor<2>,
    /// `[d]`.
    pub down_bias: Option<Tensor<1>>,
}

impl FeedForward {
    /// Whether the specialised body is for it: weights in bf16, and nothing of it trained.
    fn is_frozen_bf16(&self) -> bool {
        let narrow = |weight: &Tensor<2>| {
            weight.dtype() == DType::BF16 && takes_weight(weight) && !is_trained(weight)
        };
        let bias =
            |bias: &Option<Tensor<1>>| bias.iter().all(|bias| takes(bias) && !is_trained(bias));
        narrow(&self.up) && narrow(&self.down) && bias(&self.up_bias) && bias(&self.down_bias)
    }
}

/// `residual + gelu(x · up + up_bias) · down + down_bias`: `x`, `residual` and result are
/// `[tokens, d]`, GELU is its tanh approximation.
///
/// The specialised body, for a frozen network in bf16, keeps GELU's input in 16 bits and nothing
/// else. Where there is none, the body is two [`linear`] layers with [`activate`] between.
pub fn feed_forward(x: Tensor<2>, network: FeedForward, residual: Option<Tensor<2>>) -> Tensor<2> {
    let [tokens, _] = x.dims();
    let takes_rest = takes(&x) && residual.iter().all(takes) && tokens > FEW_TOKENS;
    let specialised = takes_rest && network.is_frozen_bf16() && PackedLeft::is_available();
    if !specialised {
        return plain(x, network, residual);
    }
    let constant = |bias: Option<Tensor<1>>| Optional::of(bias.map(Tensor::without_autodiff));
    Tensor::from_dispatch(Dispatch::feed_forward_kernel(
        x.into_dispatch(),
        Optional::of(residual),
        network.up.without_autodiff().into_dispatch(),
        constant(network.up_bias),
        network.down.without_autodiff().into_dispatch(),
        constant(network.down_bias),
    ))
}

/// So many tokens read the weights in place.
const FEW_TOKENS: usize = 4;

fn plain(x: Tensor<2>, network: FeedForward, residual: Option<Tensor<2>>) -> Tensor<2> {
    let hidden = linear(x, network.up, network.up_bias, None, None);
    let hidden = activate(hidden, ActivationKind::GeluTanh);
    linear(hidden, network.down, network.down_bias, residual, None)
}

#[backend_extension(Flex, Autodiff)]
trait FeedForwardKernel: Backend {
    fn feed_forward_kernel(
        x: FloatTensor<Self>,
        #[extension_type] residual: Optional<Self>,
        up: FloatTensor<Self>,
        #[extension_type] up_bias: Optional<Self>,
        down: FloatTensor<Self>,
        #[extension_type] down_bias: Optional<Self>,
    ) -> FloatTensor<Self>;
}

/// What a backward pass needs.
#[derive(Clone, Debug)]
struct State {
    up: FloatTensor<Flex>,
    down: FloatTensor<Flex>,
    kept: Arc<PackedLeft>,
}

/// A layer's weight and bias.
type Layer = (FloatTensor<Flex>, Option<FloatTensor<Flex>>);

fn on_cpu(
    x: FloatTensor<Flex>,
    residual: Option<FloatTensor<Flex>>,
    (up, up_bias): Layer,
    (down, down_bias): Layer,
    trains: bool,
) -> (FloatTensor<Flex>, Option<State>) {
    let (x, residual) = (contiguous(x), residual.map(contiguous));
    let (up, down) = (readable(up), readable(down));
    let (up_bias, down_bias) = (up_bias.map(contiguous), down_bias.map(contiguous));
    let network = Network {
        up: view(&up),
        up_bias: up_bias.as_ref().map(values),
        down: view(&down),
        down_bias: down_bias.as_ref().map(values),
    };
    let shape: [usize; 2] = [x.shape().dims::<2>()[0], network.down.cols()];
    let (output, kept) = network.forward(matrix(&x), residual.as_ref().map(values), trains);
    let state = kept.map(|kept| State {
        kept: Arc::new(kept),
        up,
        down,
    });
    (tensor_of(output, shape), state)
}

impl FeedForwardKernel for Flex {
    fn feed_forward_kernel(
        x: FloatTensor<Self>,
        residual: Optional<Self>,
        up: FloatTensor<Self>,
        up_bias: Optional<Self>,
        down: FloatTensor<Self>,
        down_bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        let (up, down) = ((up, up_bias.given()), (down, down_bias.given()));
        on_cpu(x, residual.given(), up, down, false).0
    }
}

impl<C: CheckpointStrategy> FeedForwardKernel for Autodiff<Flex, C> {
    fn feed_forward_kernel(
        x: FloatTensor<Self>,
        residual: Optional<Self>,
        up: FloatTensor<Self>,
        up_bias: Optional<Self>,
        down: FloatTensor<Self>,
        down_bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        let residual = residual.given();
        let inner = |tensor: OnTape<C>| tensor.into_primitive();
        let inner_residual = residual.clone().map(inner);
        let up = (inner(up), up_bias.given().map(inner));
        let down = (inner(down), down_bias.given().map(inner));
        let nodes = [x.node(), or_constant::<C>(residual).node()];
        let x = inner(x);
        match FeedForwardBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (output, state) = on_cpu(x, inner_residual, up, down, true);
                prepared.finish(state.expect("asked for"), output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(on_cpu(x, inner_residual, up, down, false).0)
            }
        }
    }
}

#[derive(Debug)]
struct FeedForwardBackward;

impl Backward<Flex, 2> for FeedForwardBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_residual] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        if let Some(node) = of_x {
            let State { up, down, kept } = &ops.state;
            let network = Network {
                up: view(up),
                up_bias: None,
                down: view(down),
                down_bias: None,
            };
            let shape = [kept.rows(), network.up.rows()];
            let gradient = network.backward(kept, matrix(&grad));
            grads.register::<Flex>(node.id, tensor_of(gradient, shape));
        }
        if let Some(node) = of_residual {
            grads.register::<Flex>(node.id, grad);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;
    use burn::tensor::FloatDType;

    /// Value and gradients are those of the plain body, up to the rounding of what is between the
    /// products.
    #[test]
    fn equals_the_plain_body_in_bf16() {
        for [tokens, d, inner] in [[5, 3, 7], [33, 65, 129], [150, 96, 400], [70, 40, 1700]] {
            let narrow = |shape: [usize; 2]| {
                let deviation = 1.0 / (shape[0] as f64).sqrt();
                random(shape, deviation).cast(FloatDType::BF16)
            };
            let vector = |length| random([1, length], 0.5).squeeze_dim::<1>(0);
            let network = FeedForward {
                up: narrow([d, inner]),
                up_bias: Some(vector(inner)),
                down: narrow([inner, d]),
                down_bias: Some(vector(d)),
            };
            let inputs = || [random([tokens, d], 1.0), random([tokens, d], 1.0)];
            let [x, residual] = inputs().map(|input| input.autodiff().require_grad());
            let [weights, _] = inputs();
            let run = |body: &dyn Fn(Tensor<2>, FeedForward, Option<Tensor<2>>) -> Tensor<2>| {
                let output = body(x.clone(), network.clone(), Some(residual.clone()));
                let gradients = (output.clone() * weights.clone().autodiff())
                    .sum()
                    .backward();
                let of = |input: &Tensor<2>| input.grad(&gradients).unwrap();
                [output.inner(), of(&x), of(&residual)]
            };
            let pairs = run(&feed_forward).into_iter().zip(run(&plain));
            for (number, (found, wanted)) in pairs.enumerate() {
                let size = wanted.clone().abs().max().into_scalar::<f32>();
                let difference = (found - wanted).abs().max().into_scalar::<f32>();
                // A few roundings, each of 2⁻⁹ at most, of parts no larger than the largest sum.
                assert!(difference < size / 64.0, "{number}: {difference} of {size}");
            }
        }
    }
}
