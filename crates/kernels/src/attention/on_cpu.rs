//! The specialised body of attention and its backward pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};

use super::{AttentionOptions, Texts};
use crate::cpu::attention::Gradients as OfParts;
use crate::cpu::attention::{Columns, ColumnsMut, Input, Saved, backward, forward};
use crate::cpu::buffer::filled;
use crate::cpu::dropout;
use crate::flex::{OnTape, Optional, contiguous, or_constant, tensor_of, values};

/// What is not a tensor.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub texts: Texts,
    pub options: AttentionOptions,
    pub dropout: f64,
    pub seed: u64,
}

/// The tensors as the CPU reads them: all in one, or apart.
#[derive(Clone, Debug)]
// A tensor is large, and made once a call: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
enum Parts {
    Packed(FloatTensor<Flex>),
    Apart([FloatTensor<Flex>; 3]),
}

impl Parts {
    fn new(
        q: FloatTensor<Flex>,
        k: Option<FloatTensor<Flex>>,
        v: Option<FloatTensor<Flex>>,
    ) -> Self {
        match (k, v) {
            (Some(k), Some(v)) => Self::Apart([q, k, v].map(with_rows)),
            _ => Self::Packed(with_rows(q)),
        }
    }

    fn tokens(&self) -> usize {
        let (Self::Packed(first) | Self::Apart([first, ..])) = self;
        first.shape()[0]
    }

    fn columns(&self, widths: [usize; 3]) -> [Columns<'_>; 3] {
        match self {
            Self::Packed(packed) => {
                let [queries, keys, values] = widths;
                let width = queries + keys + values;
                assert_eq!(
                    packed.shape()[1],
                    width,
                    "queries, keys and values side by side"
                );
                [0, queries, queries + keys].map(|offset| columns(packed, offset))
            }
            Self::Apart(apart) => {
                let tokens = self.tokens();
                for (part, width) in apart.iter().zip(widths) {
                    assert_eq!(
                        part.shape().dims(),
                        [tokens, width],
                        "queries, keys or values"
                    );
                }
                apart.each_ref().map(|part| columns(part, 0))
            }
        }
    }
}

/// The same tensor with the values of each row side by side, which [`columns`] can read.
fn with_rows(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let (strides, width) = (tensor.layout().strides(), tensor.shape()[1]);
    match strides[1] == 1 && strides[0] >= width as isize {
        true => tensor,
        false => tensor.to_contiguous(),
    }
}

/// The columns of a tensor from `offset` on.
fn columns(tensor: &FloatTensor<Flex>, offset: usize) -> Columns<'_> {
    let layout = tensor.layout();
    let stride = layout.strides()[0] as usize;
    Columns::new(
        &tensor.storage::<f32>()[layout.start_offset()..],
        stride,
        offset,
    )
}

impl Call {
    /// What the CPU works on.
    fn input<'a>(&'a self, parts: &'a Parts) -> Input<'a> {
        let [q, k, v] = parts.columns(self.options.widths());
        Input {
            dims: self.options.dims(),
            tokens: parts.tokens(),
            spans: self.texts.spans(),
            q,
            k,
            v,
            dropout: dropout::new(self.dropout, self.seed),
        }
    }

    /// The output and, for a backward pass, the log-sum-exp of the scores, `[tokens, heads]`.
    fn forward(&self, parts: &Parts, trains: bool) -> (FloatTensor<Flex>, Vec<f32>) {
        let tokens = parts.tokens();
        let [width, ..] = self.options.widths();
        let mut lse = vec![
            0.0;
            if trains {
                tokens * self.options.heads
            } else {
                0
            }
        ];
        let output = filled(tokens * width, |out| {
            forward(&self.input(parts), out, trains.then_some(&mut lse[..]));
        });
        (tensor_of(output, [tokens, width]), lse)
    }
}

#[backend_extension(Flex, Autodiff)]
pub(super) trait AttentionKernel: Backend {
    /// `q` is all three, or else both others are there.
    fn attention_kernel(
        q: FloatTensor<Self>,
        #[extension_type] k: Optional<Self>,
        #[extension_type] v: Optional<Self>,
        call: Call,
    ) -> FloatTensor<Self>;
}

impl AttentionKernel for Flex {
    fn attention_kernel(
        q: FloatTensor<Self>,
        k: Optional<Self>,
        v: Optional<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let parts = Parts::new(q, k.given(), v.given());
        call.forward(&parts, false).0
    }
}

impl<C: CheckpointStrategy> AttentionKernel for Autodiff<Flex, C> {
    fn attention_kernel(
        q: FloatTensor<Self>,
        k: Optional<Self>,
        v: Optional<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let (k, v) = (k.given(), v.given());
        let nodes =
            [Some(q.clone()), k.clone(), v.clone()].map(|tensor| or_constant::<C>(tensor).node());
        let prepared = AttentionBackward.prepare::<C>(nodes);
        let inner = |tensor: OnTape<C>| tensor.into_primitive();
        let parts = Parts::new(inner(q), k.map(inner), v.map(inner));
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (output, lse) = call.forward(&parts, true);
                let state = State {
                    parts,
                    output: output.clone(),
                    lse,
                    call,
                };
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(call.forward(&parts, false).0),
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    parts: Parts,
    output: FloatTensor<Flex>,
    lse: Vec<f32>,
    call: Call,
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 3> for AttentionBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let State {
            parts,
            output,
            lse,
            call,
        } = ops.state;
        let tokens = parts.tokens();
        let widths @ [q_width, kv_width, _] = call.options.widths();
        let saved = Saved {
            out: Columns::new(values(&output), q_width, 0),
            lse: &lse,
            grad_out: Columns::new(values(&grad), q_width, 0),
        };
        let run = |grads: OfParts<'_>| backward(&call.input(&parts), &saved, grads);
        let gradients = match &parts {
            Parts::Packed(_) => {
                let width = widths.iter().sum::<usize>();
                let all = filled(tokens * width, |out| {
                    let [q, k, v] = ColumnsMut::split(out, widths);
                    run(OfParts { q, k, v });
                });
                vec![tensor_of(all, [tokens, width])]
            }
            Parts::Apart(_) => {
                let [mut k, mut v] = [Vec::new(), Vec::new()];
                let q = filled(tokens * q_width, |q| {
                    k = filled(tokens * kv_width, |k| {
                        v = filled(tokens * kv_width, |v| {
                            run(OfParts {
                                q: ColumnsMut::new(q, q_width),
                                k: ColumnsMut::new(k, kv_width),
                                v: ColumnsMut::new(v, kv_width),
                            });
                        });
                    });
                });
                let of = |gradient, width| tensor_of(gradient, [tokens, width]);
                vec![of(q, q_width), of(k, kv_width), of(v, kv_width)]
            }
        };
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}
