//! The specialised body of a linear layer and its backward pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use half::bf16;

use crate::cpu::buffer::filled;
use crate::cpu::dropout::{Dropout, drop_rows, dropped};
use crate::cpu::elementwise::{add_rows, column_sums};
use crate::cpu::product::{Left, PackedLeft, product_f32};
use crate::cpu::{LowRank, Matrix, MatrixMut, Onto, Weight};
use crate::flex::{OnTape, Optional, contiguous, matrix, or_constant, readable, tensor_of, values};
use crate::remade::{Needed, remade};
use crate::stored::{Readable, Stored, inner_of};

#[backend_extension(Flex, Autodiff)]
pub(super) trait LinearKernel: Backend {
    fn linear_kernel(
        x: FloatTensor<Self>,
        #[extension_type] weight: Stored<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        #[extension_type] a: Optional<Self>,
        #[extension_type] b: Optional<Self>,
        factors: Factors,
    ) -> FloatTensor<Self>;
}

/// The parts of LoRA that are not tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    pub scaling: f32,
    pub dropout: Option<Dropout>,
}

/// The parts of a layer as the CPU reads them.
#[derive(Clone, Debug)]
struct State {
    /// The input, if a gradient needs it.
    x: Option<Needed>,
    tokens: usize,
    weight: Readable,
    lora: Option<LoraState>,
}

#[derive(Clone, Debug)]
struct LoraState {
    a: FloatTensor<Flex>,
    b: FloatTensor<Flex>,
    r: usize,
    /// `scaling · dropout(x) aᵀ`, `[tokens, r]`; empty until the product with the weight makes it
    /// too.
    hidden: Vec<f32>,
    factors: Factors,
}

impl LoraState {
    /// Whether the product with the weight makes LoRA's part too, from the input that both read.
    fn is_beside(&self, weight: &Readable) -> bool {
        matches!(weight, Readable::Int8(_)) && self.factors.dropout.is_none()
    }

    /// `scaling` times a product `[tokens, r]`.
    fn scaled(&self, mut hidden: Vec<f32>) -> Vec<f32> {
        hidden
            .iter_mut()
            .for_each(|value| *value *= self.factors.scaling);
        hidden
    }
}

/// A product of matrices in 32 bits.
fn times(a: Matrix<'_, f32>, b: Matrix<'_, f32>) -> Vec<f32> {
    Weight::F32(b).times(a, Onto::Zero)
}

/// A product `[tokens, r]` with a matrix in 32 bits, rounded to bf16 if the left side is.
fn times_low_rank(a: Left<'_>, b: Matrix<'_, f32>) -> Vec<f32> {
    match a {
        Left::Loose(a) => times(a, b),
        Left::Packed(_) => {
            let bits: Vec<bf16> = b.data().iter().copied().map(bf16::from_f32).collect();
            let (shape, strides) = ([b.rows(), b.cols()], [b.row_stride(), b.col_stride()]);
            Weight::BF16(Matrix::with_strides(&bits, shape, strides)).times(a, Onto::Zero)
        }
    }
}

impl State {
    /// The parts, and the input packed for the product.
    fn new(
        x: FloatTensor<Flex>,
        weight: Readable,
        low_rank: Option<(FloatTensor<Flex>, FloatTensor<Flex>)>,
        factors: Factors,
    ) -> (Self, Option<PackedLeft>) {
        let x = contiguous(x);
        let [tokens, d_in] = x.shape().dims();
        let packed = weight.packed_for(matrix(&x));
        let lora = low_rank.map(|(a, b)| {
            let (a, b) = (readable(a), readable(b));
            let [r, _] = a.shape().dims();
            let mut lora = LoraState {
                a,
                b,
                r,
                hidden: Vec::new(),
                factors,
            };
            if lora.is_beside(&weight) {
                return lora;
            }
            let packed = packed.as_ref().filter(|_| factors.dropout.is_none());
            let hidden = dropped(values(&x), d_in, factors.dropout, |x| {
                let x = Left::new(packed, Matrix::new(x, tokens, d_in));
                times_low_rank(x, matrix(&lora.a).transposed())
            });
            lora.hidden = lora.scaled(hidden);
            lora
        });
        let state = Self {
            x: Some(Needed::Kept(x)),
            tokens,
            weight,
            lora,
        };
        (state, packed)
    }

    fn forward(
        &mut self,
        packed: Option<PackedLeft>,
        bias: Option<FloatTensor<Flex>>,
        residual: Option<FloatTensor<Flex>>,
    ) -> FloatTensor<Flex> {
        let [d_in, d_out] = self.weight.dims();
        let (bias, residual) = (bias.map(contiguous), residual.map(contiguous));
        let x = self.x.as_ref().expect("there in the forward pass");
        let output = filled(self.tokens * d_out, |out| {
            let bias = bias.as_ref().map(values);
            let onto = match (bias, residual.as_ref().map(values)) {
                (None, None) => Onto::Zero,
                (Some(bias), None) => Onto::Row(bias),
                (bias, Some(residual)) => {
                    add_rows(out, residual, bias, d_out);
                    Onto::Current
                }
            };
            let mut out = MatrixMut::new(out, self.tokens, d_out);
            let x = Matrix::new(x.values(), self.tokens, d_in);
            if let Some(lora) = &mut self.lora
                && lora.is_beside(&self.weight)
            {
                lora.hidden = filled(self.tokens * lora.r, |hidden| {
                    let low_rank = LowRank {
                        down: matrix(&lora.a).transposed(),
                        up: matrix(&lora.b).transposed(),
                        scaling: lora.factors.scaling,
                        hidden,
                    };
                    let with =
                        |weight: Weight<'_>| weight.product_with(x, low_rank, onto, &mut out);
                    self.weight.with(with);
                });
                return;
            }
            let x = Left::new(packed.as_ref(), x);
            self.weight.with(|weight| weight.product(x, onto, &mut out));
            if let Some(lora) = &self.lora {
                let hidden = Matrix::new(&lora.hidden, self.tokens, lora.r);
                product_f32(
                    hidden,
                    matrix(&lora.b).transposed(),
                    Onto::Current,
                    &mut out,
                );
            }
        });
        tensor_of(output, [self.tokens, d_out])
    }

    /// The gradient of `x aᵀ`, `[tokens, r]`.
    fn hidden_gradient(&self, grad: Left<'_>) -> Option<Vec<f32>> {
        let lora = self.lora.as_ref()?;
        Some(lora.scaled(times_low_rank(grad, matrix(&lora.b))))
    }

    /// The gradients of the input and of `x aᵀ`, if the product makes LoRA's part too.
    fn both_gradients(&self, grad: Matrix<'_, f32>) -> Option<(FloatTensor<Flex>, Vec<f32>)> {
        let lora = self.lora.as_ref()?;
        if !lora.is_beside(&self.weight) {
            return None;
        }
        let (tokens, [d_in, _]) = (self.tokens, self.weight.dims());
        let mut of_hidden = Vec::new();
        let gradient = filled(tokens * d_in, |out| {
            of_hidden = filled(tokens * lora.r, |hidden| {
                let low_rank = LowRank {
                    down: matrix(&lora.b),
                    up: matrix(&lora.a),
                    scaling: lora.factors.scaling,
                    hidden,
                };
                let mut out = MatrixMut::new(out, tokens, d_in);
                self.weight.with(|weight| {
                    let weight = weight.transposed();
                    weight.product_with(grad, low_rank, Onto::Zero, &mut out);
                });
            });
        });
        Some((tensor_of(gradient, [tokens, d_in]), of_hidden))
    }

    fn x_gradient(&self, grad: Left<'_>, of_hidden: Option<&[f32]>) -> FloatTensor<Flex> {
        let (tokens, [d_in, _]) = (self.tokens, self.weight.dims());
        let gradient = filled(tokens * d_in, |out| {
            let mut onto = Onto::Zero;
            if let (Some(lora), Some(hidden)) = (&self.lora, of_hidden) {
                let hidden = Matrix::new(hidden, tokens, lora.r);
                let mut part = MatrixMut::new(out, tokens, d_in);
                product_f32(hidden, matrix(&lora.a), Onto::Zero, &mut part);
                if let Some(dropout) = lora.factors.dropout {
                    drop_rows(out, d_in, dropout);
                }
                onto = Onto::Current;
            }
            let mut out = MatrixMut::new(out, tokens, d_in);
            self.weight
                .with(|weight| weight.transposed().product(grad, onto, &mut out));
        });
        tensor_of(gradient, [tokens, d_in])
    }
}

impl LinearKernel for Flex {
    fn linear_kernel(
        x: FloatTensor<Self>,
        weight: Stored<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        a: Optional<Self>,
        b: Optional<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let (mut state, packed) = State::new(x, weight.into(), a.given().zip(b.given()), factors);
        state.forward(packed, bias.given(), residual.given())
    }
}

impl<C: CheckpointStrategy> LinearKernel for Autodiff<Flex, C> {
    fn linear_kernel(
        x: FloatTensor<Self>,
        weight: Stored<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        a: Optional<Self>,
        b: Optional<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let [bias, residual, a, b] = [bias, residual, a, b].map(Optional::given);
        let inner = |tensor: &Option<OnTape<C>>| tensor.as_ref().map(|t| t.primitive().clone());
        let (inner_bias, inner_residual) = (inner(&bias), inner(&residual));
        let (inner_a, inner_b) = (inner(&a), inner(&b));
        let (weight, tracked) = inner_of(weight);
        let is_tracked = |t: &Option<OnTape<C>>| t.as_ref().is_some_and(|t| t.is_tracked());
        let needs_x = is_tracked(&tracked) || is_tracked(&a);
        let node = |tensor: Option<OnTape<C>>| -> NodeGuard { or_constant::<C>(tensor).node() };
        let nodes = [
            x.node(),
            node(tracked),
            node(bias),
            node(residual),
            node(a),
            node(b),
        ];
        let again = remade::<C>(&x);
        let x = x.into_primitive();
        let (mut state, packed) = State::new(x, weight.into(), inner_a.zip(inner_b), factors);
        let output = state.forward(packed, inner_bias, inner_residual);
        if let (Some(again), Some(Needed::Kept(x))) = (&again, &state.x)
            && matches!(state.weight, Readable::Int8(_))
        {
            again.keep_if_costly(x);
        }
        match again {
            _ if !needs_x => state.x = None,
            Some(again) => state.x = Some(Needed::Remade(again)),
            None => {}
        }
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
        let (state, grad) = (ops.state, matrix(&grad_tensor));
        let [d_in, d_out] = state.weight.dims();
        let packed = of_x.as_ref().and_then(|_| state.weight.packed_for(grad));
        let left = Left::new(packed.as_ref(), grad);
        let (of_input, of_hidden) = match of_x.as_ref().and_then(|_| state.both_gradients(grad)) {
            Some((of_input, of_hidden)) => (Some(of_input), Some(of_hidden)),
            None if of_x.is_some() || of_a.is_some() => (None, state.hidden_gradient(left)),
            None => (None, None),
        };
        if let (Some(node), Some(lora)) = (of_b, &state.lora) {
            let hidden = Matrix::new(&lora.hidden, state.tokens, lora.r);
            // Not gradᵀ · hidden: few rows on the left are packed sooner than many.
            let gradient = tensor_of(times(hidden.transposed(), grad), [lora.r, d_out]);
            grads.register::<Flex>(node.id, gradient.transpose(0, 1).to_contiguous());
        }
        if let (Some(node), Some(lora), Some(hidden), Some(x)) =
            (of_a, &state.lora, &of_hidden, &state.x)
        {
            let hidden = Matrix::new(hidden, state.tokens, lora.r).transposed();
            let gradient = dropped(x.values(), d_in, lora.factors.dropout, |x| {
                times(hidden, Matrix::new(x, state.tokens, d_in))
            });
            grads.register::<Flex>(node.id, tensor_of(gradient, [lora.r, d_in]));
        }
        if let Some(node) = of_x {
            let gradient = of_input.unwrap_or_else(|| state.x_gradient(left, of_hidden.as_deref()));
            grads.register::<Flex>(node.id, gradient);
        }
        if let (Some(node), Some(x)) = (of_weight, &state.x) {
            let x = Matrix::new(x.values(), state.tokens, d_in);
            let gradient = times(x.transposed(), grad);
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
