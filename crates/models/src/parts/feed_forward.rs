//! A feed-forward network of two layers.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn_peft::{BaseLayer, LoraAdapter};
use burn_peft_kernels::{FeedForward, Projection, dropout_probability, feed_forward};

use super::{Activation, project_onto};

/// `residual + dropout(down(f(up(input))))`, `[tokens, d]`, in one operation if no adapter acts on
/// the layers and nothing is dropped.
pub(crate) fn two_layers<L: BaseLayer<Input = Tensor<2>>>(
    [up, down]: [&LoraAdapter<L>; 2],
    activation: Activation,
    dropout: &Dropout,
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let drops = dropout_probability(dropout, &input) != 0.0;
    let in_one = || {
        Some(FeedForward {
            gate: None,
            up: unadapted(up)?,
            down: unadapted(down)?,
            activation: activation.kind(),
        })
    };
    if !drops && let Some(network) = in_one() {
        return feed_forward(input, network, residual);
    }
    let inner = activation.forward(up.forward(input), down.input_dtype());
    project_onto(down, inner, dropout, residual)
}

/// The weight and bias of a layer on which no adapter acts; `None` if one does.
pub(crate) fn unadapted<L: BaseLayer<Input = Tensor<2>>>(
    slot: &LoraAdapter<L>,
) -> Option<Projection> {
    let layer = slot.unadapted()?;
    Some(Projection {
        weight: layer.stored_weight(),
        bias: layer.bias(),
    })
}
