//! A linear layer with a frozen or trained weight, its bias, what it is added to, and LoRA.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use crate::cpu::buffer::filled;
use crate::cpu::elementwise::{column_sums, start_rows};
use crate::cpu::product::product;
use crate::cpu::{Matrix, dropout::Dropout};
use crate::flex::{
    OnTape, Optional, contiguous, draw_seed, matrix, or_constant, readable, takes, tensor_of,
    values,
};

/// The low-rank part of a linear layer: `scaling · dropout(x) aᵀ bᵀ` (arXiv 2106.09685).
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, d_in]`.
    pub a: Tensor<2>,
    /// `[d_out, r]`.
    pub b: Tensor<2>,
    /// `lora_alpha / r`, or what stands in its place.
    pub scaling: f64,
    /// The share of the input's values that training sets to zero.
    pub dropout: f64,
}

/// `x · weight + bias + residual + lora`: `x` is `[tokens, d_in]`, `weight` `[d_in, d_out]`,
/// `bias` `[d_out]`, `residual` and result `[tokens, d_out]`.
///
/// The specialised body makes one product into what the smaller parts began, keeps the input
/// (and `x aᵀ`, `[tokens, r]`) and makes gradients only of what is tracked. Dropout is made anew
/// from its seed for the gradient.
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    let factors = lora.iter().all(|lora| takes(&lora.a) && takes(&lora.b));
    let rest = bias.iter().all(takes) && residual.iter().all(takes);
    if !(takes(&x) && takes(&weight) && rest && factors) {
        return plain(x, weight, bias, residual, lora);
    }
    // As Burn's own dropout: it acts on devices that record gradients.
    let trains = x.is_autodiff() || lora.iter().any(|lora| lora.a.is_autodiff());
    let dropout = lora.as_ref().map_or(0.0, |lora| lora.dropout);
    let (dropout, seed) = match trains && dropout > 0.0 {
        true => (dropout, draw_seed(&x.device())),
        false => (0.0, 0),
    };
    let scaling = lora.as_ref().map_or(0.0, |lora| lora.scaling);
    let (a, b) = lora.map(|lora| (lora.a, lora.b)).unzip();
    Tensor::from_dispatch(Dispatch::linear_kernel(
        x.into_dispatch(),
        weight.into_dispatch(),
        Optional::of(bias),
        Optional::of(residual),
        Optional::of(a),
        Optional::of(b),
        scaling,
        dropout,
        seed,
    ))
}

fn plain(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    let mut output = x.clone().matmul(weight);
    if let Some(bias) = bias {
        output = output + bias.unsqueeze();
    }
    if let Some(lora) = lora {
        // Scaling the [tokens, r] product is d_out / r times cheaper than scaling the result.
        let hidden = crate::dropout(x, lora.dropout).matmul(lora.a.transpose()) * lora.scaling;
        output = output + hidden.matmul(lora.b.transpose());
    }
    match residual {
        Some(residual) => residual + output,
        None => output,
    }
}

#[backend_extension(Flex, Autodiff)]
trait LinearKernel: Backend {
    #[allow(clippy::too_many_arguments)]
    fn linear_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        #[extension_type] a: Optional<Self>,
        #[extension_type] b: Optional<Self>,
        scaling: f64,
        dropout: f64,
        seed: u64,
    ) -> FloatTensor<Self>;
}

/// The parts of a layer as the CPU reads them, and `x aᵀ` once it is known.
#[derive(Clone, Debug)]
struct State {
    x: FloatTensor<Flex>,
    weight: FloatTensor<Flex>,
    lora: Option<LoraState>,
}

#[derive(Clone, Debug)]
struct LoraState {
    a: FloatTensor<Flex>,
    b: FloatTensor<Flex>,
    /// `dropout(x) aᵀ`, `[tokens, r]`.
    hidden: FloatTensor<Flex>,
    scaling: f32,
    dropout: Option<Dropout>,
}

impl State {
    #[allow(clippy::too_many_arguments)]
    fn new(
        x: FloatTensor<Flex>,
        weight: FloatTensor<Flex>,
        a: Option<FloatTensor<Flex>>,
        b: Option<FloatTensor<Flex>>,
        scaling: f64,
        dropout: f64,
        seed: u64,
    ) -> Self {
        let x = contiguous(x);
        let dropout = Dropout::new(dropout, seed);
        let lora = a.zip(b).map(|(a, b)| {
            let (a, b) = (readable(a), readable(b));
            let [tokens, d_in] = x.shape().dims();
            let [r, _] = a.shape().dims();
            let hidden = Dropout::on(dropout, values(&x), d_in, |x| {
                filled(tokens * r, |out| {
                    let x = Matrix::new(x, tokens, d_in);
                    product(out, x, matrix(&a).transpose(), 1.0, false);
                })
            });
            LoraState {
                hidden: tensor_of(hidden, [tokens, r]),
                a,
                b,
                scaling: scaling as f32,
                dropout,
            }
        });
        Self {
            x,
            weight: readable(weight),
            lora,
        }
    }

    fn forward(
        &self,
        bias: Option<FloatTensor<Flex>>,
        residual: Option<FloatTensor<Flex>>,
    ) -> FloatTensor<Flex> {
        let [tokens, _] = self.x.shape().dims();
        let [_, d_out] = self.weight.shape().dims();
        let (bias, residual) = (bias.map(contiguous), residual.map(contiguous));
        let output = filled(tokens * d_out, |out| {
            let (bias, residual) = (bias.as_ref().map(values), residual.as_ref().map(values));
            let starts = bias.is_some() || residual.is_some();
            if starts {
                start_rows(out, bias, residual, d_out);
            }
            product(out, matrix(&self.x), matrix(&self.weight), 1.0, starts);
            if let Some(lora) = &self.lora {
                let b = matrix(&lora.b).transpose();
                product(out, matrix(&lora.hidden), b, lora.scaling, true);
            }
        });
        tensor_of(output, [tokens, d_out])
    }
}

impl LinearKernel for Flex {
    fn linear_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        a: Optional<Self>,
        b: Optional<Self>,
        scaling: f64,
        dropout: f64,
        seed: u64,
    ) -> FloatTensor<Self> {
        let state = State::new(x, weight, a.given(), b.given(), scaling, dropout, seed);
        state.forward(bias.given(), residual.given())
    }
}

impl<C: CheckpointStrategy> LinearKernel for Autodiff<Flex, C> {
    fn linear_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        a: Optional<Self>,
        b: Optional<Self>,
        scaling: f64,
        dropout: f64,
        seed: u64,
    ) -> FloatTensor<Self> {
        let [bias, residual, a, b] = [bias, residual, a, b].map(Optional::given);
        let inner = |tensor: &Option<OnTape<C>>| tensor.as_ref().map(|t| t.primitive().clone());
        let (inner_bias, inner_residual) = (inner(&bias), inner(&residual));
        let (inner_a, inner_b) = (inner(&a), inner(&b));
        let node = |tensor: Option<OnTape<C>>| -> NodeGuard { or_constant::<C>(tensor).node() };
        let nodes = [
            x.node(),
            weight.node(),
            node(bias),
            node(residual),
            node(a),
            node(b),
        ];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let state = State::new(x, weight, inner_a, inner_b, scaling, dropout, seed);
        let output = state.forward(inner_bias, inner_residual);
        match LinearBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(state, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 6> for LinearBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight, of_bias, of_residual, of_a, of_b] = ops.parents;
        let grad_tensor = contiguous(grads.consume::<Flex>(&ops.node));
        let State { x, weight, lora } = ops.state;
        let [tokens, d_in] = x.shape().dims();
        let [_, d_out] = weight.shape().dims();
        let grad = matrix(&grad_tensor);
        // The gradient of `x aᵀ`, [tokens, r].
        let of_hidden = lora.as_ref().filter(|_| of_x.is_some() || of_a.is_some());
        let of_hidden = of_hidden.map(|lora| {
            let [_, r] = lora.hidden.shape().dims();
            let hidden = filled(tokens * r, |out| {
                product(out, grad, matrix(&lora.b), lora.scaling, false);
            });
            (hidden, r)
        });
        if let (Some(node), Some(lora)) = (of_b, &lora) {
            let [_, r] = lora.hidden.shape().dims();
            let gradient = filled(d_out * r, |out| {
                let hidden = matrix(&lora.hidden);
                product(out, grad.transpose(), hidden, lora.scaling, false);
            });
            grads.register::<Flex>(node.id, tensor_of(gradient, [d_out, r]));
        }
        if let (Some(node), Some(lora), Some((hidden, r))) = (of_a, &lora, &of_hidden) {
            let hidden = Matrix::new(hidden, tokens, *r).transpose();
            let gradient = Dropout::on(lora.dropout, values(&x), d_in, |x| {
                let x = Matrix::new(x, tokens, d_in);
                filled(r * d_in, |out| product(out, hidden, x, 1.0, false))
            });
            grads.register::<Flex>(node.id, tensor_of(gradient, [*r, d_in]));
        }
        if let Some(node) = of_x {
            let gradient = filled(tokens * d_in, |out| {
                let low_rank = lora.as_ref().zip(of_hidden.as_ref());
                if let Some((lora, (hidden, r))) = low_rank {
                    let hidden = Matrix::new(hidden, tokens, *r);
                    product(out, hidden, matrix(&lora.a), 1.0, false);
                    if let Some(dropout) = &lora.dropout {
                        dropout.apply(out, d_in);
                    }
                }
                let weight = matrix(&weight).transpose();
                product(out, grad, weight, 1.0, low_rank.is_some());
            });
            grads.register::<Flex>(node.id, tensor_of(gradient, [tokens, d_in]));
        }
        if let Some(node) = of_weight {
            let gradient = filled(d_in * d_out, |out| {
                product(out, matrix(&x).transpose(), grad, 1.0, false);
            });
            grads.register::<Flex>(node.id, tensor_of(gradient, [d_in, d_out]));
        }
        if let Some(node) = of_bias {
            let gradient = column_sums(values(&grad_tensor), d_out);
            grads.register::<Flex>(node.id, tensor_of(gradient, [d_out]));
        }
        if let Some(node) = of_residual {
            grads.register::<Flex>(node.id, grad_tensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    const SHAPES: [[usize; 4]; 4] = [
        [1, 1, 1, 1],
        [3, 7, 5, 2],
        [33, 129, 65, 8],
        [100, 48, 96, 4],
    ];

    fn lora(a: Tensor<2>, b: Tensor<2>) -> Option<Lora> {
        Some(Lora {
            a,
            b,
            scaling: 1.5,
            dropout: 0.0,
        })
    }

    #[test]
    fn equals_the_plain_body() {
        let vector = |row: Tensor<2>| Some(row.squeeze_dim(0));
        for [tokens, d_in, d_out, r] in SHAPES {
            let x = random([tokens, d_in], 1.0);
            let weight = random([d_in, d_out], 1.0);
            let (bias, residual) = (random([1, d_out], 1.0), random([tokens, d_out], 1.0));
            let (a, b) = (random([r, d_in], 1.0), random([d_out, r], 1.0));
            assert_same_gradients(
                &[
                    x.clone(),
                    weight.clone(),
                    bias,
                    residual,
                    a.clone(),
                    b.clone(),
                ],
                |[x, w, c, y, a, b]| linear(x, w, vector(c), Some(y), lora(a, b)),
                |[x, w, c, y, a, b]| plain(x, w, vector(c), Some(y), lora(a, b)),
            );
            assert_same_gradients(
                &[x.clone(), weight.clone()],
                |[x, w]| linear(x, w, None, None, None),
                |[x, w]| plain(x, w, None, None, None),
            );
            // A weight that is a view, as Burn's transposed layouts are.
            assert_same_gradients(
                &[x, weight.transpose().inner(), a, b],
                |[x, w, a, b]| linear(x, w.transpose(), None, None, lora(a, b)),
                |[x, w, a, b]| plain(x, w.transpose(), None, None, lora(a, b)),
            );
        }
    }

    /// The mask of the forward pass is that of the backward pass: with the mask read off one
    /// product, the gradients are those of a masked input.
    #[test]
    fn dropout_is_the_same_in_both_passes() {
        let [tokens, d_in, r] = [20, 30, 30];
        let identity = || Tensor::<2>::eye(r, &burn::tensor::Device::flex());
        let device = burn::tensor::Device::flex();
        let run = |x: Tensor<2>| {
            device.seed(5);
            let zero = Tensor::zeros([d_in, r], &device);
            let lora = Lora {
                a: identity().autodiff(),
                b: identity(),
                scaling: 1.0,
                dropout: 0.4,
            };
            linear(x, zero, None, None, Some(lora))
        };
        let ones = Tensor::<2>::ones([tokens, d_in], &device);
        let mask = run(ones.clone().autodiff()).inner();
        let kept = mask
            .clone()
            .greater_elem(0.0)
            .int()
            .sum()
            .into_scalar::<i32>();
        assert!((300..420).contains(&kept), "{kept} of 600 values are kept");
        let x = ones.autodiff().require_grad();
        let gradients = run(x.clone()).sum().backward();
        let gradient = x.grad(&gradients).unwrap();
        gradient.into_data().assert_eq(&mask.into_data(), true);
    }
}
