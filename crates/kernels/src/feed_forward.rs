//! A feed-forward network.

mod on_cpu;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};

use self::on_cpu::{FeedForwardKernel, Layers};
use crate::cpu::product::{FEW_ROWS, PackedLeft};
use crate::flex::{Optional, is_trained, takes, takes_weight};
use crate::{ActivationKind, activate, glu, linear};

/// A weight `[d_in, d_out]` and a bias `[d_out]`.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The weight, which may be columns of a wider one.
    pub weight: Tensor<2>,
    /// The bias, if there is one.
    pub bias: Option<Tensor<1>>,
}

impl Projection {
    /// Splits a layer that makes gate and up side by side (Phi-3, GLM-4) into the two. Returns
    /// `None` where one product with both is faster, which it is except for a weight in bf16 on the
    /// CPU.
    pub fn halves(&self) -> Option<[Self; 2]> {
        if self.weight.dtype() != DType::BF16 || !takes_weight(&self.weight) {
            return None;
        }
        let inner = self.weight.dims()[1] / 2;
        Some([0..inner, inner..2 * inner].map(|columns| Self {
            weight: self.weight.clone().slice_dim(1, columns.clone()),
            bias: self.bias.clone().map(|bias| bias.slice_dim(0, columns)),
        }))
    }

    fn forward(self, x: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        linear(x, self.weight, self.bias, residual, None)
    }

    /// Whether the specialised body takes it: the weight in bf16, and nothing trained.
    fn is_frozen_bf16(&self) -> bool {
        let weight = &self.weight;
        let narrow = weight.dtype() == DType::BF16 && takes_weight(weight) && !is_trained(weight);
        let mut bias = self.bias.iter();
        narrow && bias.all(|bias| takes(bias) && !is_trained(bias))
    }
}

/// Two linear layers with an activation between them, which may have a gate.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// From `d` to `inner`: if there is a gate, it goes through the activation instead of `up`.
    pub gate: Option<Projection>,
    /// From `d` to `inner`.
    pub up: Projection,
    /// From `inner` to `d`.
    pub down: Projection,
    /// The activation.
    pub activation: ActivationKind,
}

impl FeedForward {
    fn is_frozen_bf16(&self) -> bool {
        let mut layers = [&self.up, &self.down].into_iter().chain(&self.gate);
        layers.all(Projection::is_frozen_bf16)
    }
}

/// `residual + down(activation(gate(x)) · up(x))`, or without a gate
/// `residual + down(activation(up(x)))`: `x`, `residual` and result are `[tokens, d]`.
///
/// The specialised body, for a frozen network in bf16, keeps the outputs of the first layers in 16
/// bits and nothing else. Otherwise the body is [`linear`] layers with [`glu`] or [`activate`]
/// between them.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn feed_forward(x: Tensor<2>, network: FeedForward, residual: Option<Tensor<2>>) -> Tensor<2> {
    let [tokens, _] = x.dims();
    // Products of fewer rows read the weights in place.
    let takes_rest = takes(&x) && residual.iter().all(takes) && tokens > FEW_ROWS;
    let specialised = takes_rest && network.is_frozen_bf16() && PackedLeft::is_available();
    if !specialised {
        return plain(x, network, residual);
    }
    let weight = |layer: &Projection| layer.weight.clone().without_autodiff();
    let bias = |layer: &Projection| layer.bias.clone().map(Tensor::without_autodiff);
    let FeedForward { gate, up, down, .. } = &network;
    let layers = Layers {
        gate: Optional::of(gate.as_ref().map(weight)),
        gate_bias: Optional::of(gate.as_ref().and_then(bias)),
        up: weight(up).into_dispatch(),
        up_bias: Optional::of(bias(up)),
        down: weight(down).into_dispatch(),
        down_bias: Optional::of(bias(down)),
        activation: network.activation,
    };
    Tensor::from_dispatch(Dispatch::feed_forward_kernel(
        x.into_dispatch(),
        Optional::of(residual),
        layers,
    ))
}

fn plain(x: Tensor<2>, network: FeedForward, residual: Option<Tensor<2>>) -> Tensor<2> {
    let FeedForward {
        gate,
        up,
        down,
        activation,
    } = network;
    let hidden = match gate {
        Some(gate) => {
            let gate = gate.forward(x.clone(), None);
            glu(gate, up.forward(x, None), activation, down.weight.dtype())
        }
        None => activate(up.forward(x, None), activation, down.weight.dtype()),
    };
    down.forward(hidden, residual)
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
            let layer = |d_in, d_out| Projection {
                weight: narrow([d_in, d_out]),
                bias: Some(vector(d_out)),
            };
            // Gate and up as columns of one weight, which Phi-3 has them in.
            let both = narrow([d, 2 * inner]);
            let both = Projection {
                weight: both,
                bias: Some(vector(2 * inner)),
            };
            let [gate, up] = both.halves().unwrap();
            let plain_network = |activation| FeedForward {
                gate: None,
                up: layer(d, inner),
                down: layer(inner, d),
                activation,
            };
            for network in [
                plain_network(ActivationKind::GeluTanh),
                plain_network(ActivationKind::ReluSquared),
                FeedForward {
                    gate: Some(layer(d, inner)),
                    ..plain_network(ActivationKind::Silu)
                },
                FeedForward {
                    gate: Some(gate),
                    up,
                    ..plain_network(ActivationKind::GeluTanh)
                },
            ] {
                let inputs = || [random([tokens, d], 1.0), random([tokens, d], 1.0)];
                let [x, residual] = inputs().map(|input| input.autodiff().require_grad());
                let [weights, _] = inputs();
                let run =
                    |body: &dyn Fn(Tensor<2>, FeedForward, Option<Tensor<2>>) -> Tensor<2>| {
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
                    // A few roundings, each of 2⁻⁹ at most, of parts no larger than the largest
                    // sum.
                    assert!(difference < size / 64.0, "{number}: {difference} of {size}");
                }
            }
        }
    }
}
