//! Causal self-attention of texts that lie one after the other.

mod plain;
mod texts;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use self::plain::plain;
use crate::cpu::attention::Gradients as Parts;
use crate::cpu::attention::{Columns, ColumnsMut, Dims, Input, Saved, backward, forward};
use crate::cpu::buffer::filled;
use crate::cpu::dropout;
use crate::draw_seed;
use crate::flex::{contiguous, takes, tensor_of, values};

pub use self::texts::Texts;
pub use crate::cpu::attention::Span;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// The heads of the queries.
    pub heads: usize,
    /// The heads of the keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// What the scores are multiplied by, `1/√head_dim` as a rule.
    pub scale: f64,
}

impl AttentionShape {
    pub(crate) fn dims(&self) -> Dims {
        Dims {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.scale as f32,
        }
    }

    /// The columns of queries, keys and values.
    fn widths(&self) -> [usize; 3] {
        let keys = self.kv_heads * self.head_dim;
        [self.heads * self.head_dim, keys, keys]
    }
}

/// Causal self-attention of each text of a batch, `[tokens, heads · head_dim]`, from queries, keys
/// and values side by side, `[tokens, (heads + 2 · kv_heads) · head_dim]`.
///
/// A token of no text gets zeros. A share `dropout` of the weights is set to zero on devices that
/// record gradients.
///
/// The specialised body keeps its input, its output and one number per token and head; scores
/// live in blocks (arXiv 2205.14135, 2307.08691). The plain body computes texts of about the same
/// length side by side.
///
/// # Panics
/// If texts overlap or go beyond the tokens, or if the width is another.
pub fn attention(qkv: Tensor<2>, texts: &Texts, shape: AttentionShape, dropout: f64) -> Tensor<2> {
    let dropout = if qkv.is_autodiff() { dropout } else { 0.0 };
    if !takes(&qkv) {
        return plain(qkv, texts, shape, dropout);
    }
    let seed = match dropout > 0.0 {
        true => draw_seed(&qkv.device()),
        false => 0,
    };
    let call = Call {
        texts: texts.clone(),
        shape,
        dropout,
        seed,
    };
    Tensor::from_dispatch(Dispatch::attention_kernel(qkv.into_dispatch(), call))
}

/// What is not a tensor.
#[derive(Clone, Debug)]
struct Call {
    texts: Texts,
    shape: AttentionShape,
    dropout: f64,
    seed: u64,
}

impl Call {
    /// The parts of `qkv` as the CPU reads them.
    fn input<'a>(&'a self, qkv: &'a FloatTensor<Flex>) -> Input<'a> {
        let [tokens, width] = qkv.shape().dims();
        let [queries, keys, _] = self.shape.widths();
        let columns = |offset| Columns::new(values(qkv), width, offset);
        Input {
            dims: self.shape.dims(),
            tokens,
            spans: self.texts.spans(),
            q: columns(0),
            k: columns(queries),
            v: columns(queries + keys),
            dropout: dropout::new(self.dropout, self.seed),
        }
    }

    /// The output and, for a backward pass, the log-sum-exp of the scores, `[tokens, heads]`.
    fn forward(&self, qkv: &FloatTensor<Flex>, trains: bool) -> (FloatTensor<Flex>, Vec<f32>) {
        let [tokens, _] = qkv.shape().dims();
        let [width, ..] = self.shape.widths();
        let mut lse = vec![0.0; if trains { tokens * self.shape.heads } else { 0 }];
        let output = filled(tokens * width, |out| {
            forward(&self.input(qkv), out, trains.then_some(&mut lse[..]));
        });
        (tensor_of(output, [tokens, width]), lse)
    }
}

#[backend_extension(Flex, Autodiff)]
trait AttentionKernel: Backend {
    fn attention_kernel(qkv: FloatTensor<Self>, call: Call) -> FloatTensor<Self>;
}

impl AttentionKernel for Flex {
    fn attention_kernel(qkv: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        call.forward(&contiguous(qkv), false).0
    }
}

impl<C: CheckpointStrategy> AttentionKernel for Autodiff<Flex, C> {
    fn attention_kernel(qkv: FloatTensor<Self>, call: Call) -> FloatTensor<Self> {
        let prepared = AttentionBackward.prepare::<C>([qkv.node()]);
        let qkv = contiguous(qkv.into_primitive());
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, lse) = call.forward(&qkv, true);
                let state = State {
                    qkv,
                    output: output.clone(),
                    lse,
                    call,
                };
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(call.forward(&qkv, false).0),
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    qkv: FloatTensor<Flex>,
    output: FloatTensor<Flex>,
    lse: Vec<f32>,
    call: Call,
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_qkv] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let Some(node) = of_qkv else { return };
        let State {
            qkv,
            output,
            lse,
            call,
        } = ops.state;
        let [tokens, width] = qkv.shape().dims();
        let widths = call.shape.widths();
        let saved = Saved {
            out: Columns::new(values(&output), widths[0], 0),
            lse: &lse,
            grad_out: Columns::new(values(&grad), widths[0], 0),
        };
        let gradient = filled(tokens * width, |out| {
            let [q, k, v] = ColumnsMut::split(out, widths);
            backward(&call.input(&qkv), &saved, Parts { q, k, v });
        });
        grads.register::<Flex>(node.id, tensor_of(gradient, [tokens, width]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    fn span(start: usize, queries: usize, keys: usize) -> Span {
        Span {
            start,
            queries,
            keys,
        }
    }

    #[test]
    fn equals_the_plain_body() {
        let shape = AttentionShape {
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            scale: 0.3,
        };
        let same_heads = AttentionShape {
            kv_heads: 4,
            ..shape
        };
        // Texts side by side, gaps, and padding that attends to its text.
        let mixed = Texts::new(vec![span(0, 7, 7), span(9, 130, 121), span(139, 1, 1)]);
        let alike = Texts::new(vec![span(0, 29, 29), span(29, 29, 29)]);
        let cases = [
            (&mixed, 145, shape),
            (&mixed, 145, same_heads),
            (&alike, 58, shape),
        ];
        for (texts, tokens, shape) in cases {
            let width = shape.widths().iter().sum();
            assert_same_gradients(
                &[random([tokens, width], 1.0)],
                |[qkv]| attention(qkv, texts, shape, 0.0),
                |[qkv]| plain(qkv, texts, shape, 0.0),
            );
            // Of the same seed, the same weights are dropped.
            assert_same_gradients(
                &[random([tokens, width], 1.0)],
                |[qkv]| crate::with_seed(5, || attention(qkv, texts, shape, 0.3)),
                |[qkv]| crate::with_seed(5, || plain(qkv, texts, shape, 0.3)),
            );
        }
    }
}
