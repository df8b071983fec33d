//! The specialised body of attention and its backward pass.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use super::parts::Parts;
use super::shared::SharedTokens;
use super::{AttentionOptions, Texts};
use crate::cpu::attention::Gradients as OfParts;
use crate::cpu::attention::{Columns, ColumnsMut, Input, Saved, backward, forward};
use crate::cpu::buffer::filled;
use crate::cpu::dropout::Dropout;
use crate::flex::{OnTape, Optional, contiguous, or_constant, tensor_of, values};
use crate::remade::{Needed, Remade, can_remake, remade};

/// The arguments that are not tensors.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub texts: Texts,
    pub options: AttentionOptions,
    pub dropout: Option<Dropout>,
}

/// Up to this many keys in a text, attention takes some hundredths of a step.
const CHEAP_KEYS: usize = 512;

impl Call {
    /// The arguments of the CPU's functions.
    fn input<'a>(&'a self, tokens: usize, [q, k, v]: [Columns<'a>; 3]) -> Input<'a> {
        Input {
            dims: self.options.dims(),
            tokens,
            spans: self.texts.spans(),
            q,
            k,
            v,
            dropout: self.dropout,
        }
    }

    /// The number of rows that the texts take: their tokens, or the copies of shared ones.
    fn rows(&self, parts: &Parts) -> usize {
        let shared = self.texts.shared();
        shared.map_or(parts.tokens(), SharedTokens::rows)
    }

    /// Returns the output. Writes the log-sum-exp of the scores, `[rows, heads]`, to `lse`.
    fn forward(&self, parts: &Parts, lse: Option<&mut [f32]>) -> Vec<f32> {
        let widths @ [width, ..] = self.options.widths();
        let columns = parts.columns(widths);
        let run = |rows, columns, lse| {
            filled(rows * width, |out| {
                forward(&self.input(rows, columns), out, lse)
            })
        };
        match self.texts.shared() {
            None => run(parts.tokens(), columns, lse),
            Some(shared) => {
                let copies = Copies::new(shared, columns, widths);
                shared.own(&run(shared.rows(), copies.columns(), lse), width)
            }
        }
    }

    /// The gradients of the parts, with their widths.
    fn backward(&self, parts: &Parts, saved: &Saved<'_>) -> Vec<(Vec<f32>, usize)> {
        let widths @ [width, ..] = self.options.widths();
        let columns = parts.columns(widths);
        let Some(shared) = self.texts.shared() else {
            let input = self.input(parts.tokens(), columns);
            return gradients(parts, &input, saved, widths);
        };
        let copies = Copies::new(shared, columns, widths);
        let (out, grad_out) = (
            shared.copied(saved.out, width),
            // A token's output was taken from its own row only.
            shared.placed(saved.grad_out, width),
        );
        let saved = Saved {
            out: Columns::new(&out, width, 0),
            lse: saved.lse,
            grad_out: Columns::new(&grad_out, width, 0),
        };
        let input = self.input(shared.rows(), copies.columns());
        let of_rows = gradients(parts, &input, &saved, widths);
        let summed = of_rows.into_iter();
        summed
            .map(|(gradient, width)| (shared.summed(&gradient, width), width))
            .collect()
    }

    fn output(&self, parts: &Parts, lse: Option<&mut [f32]>) -> FloatTensor<Flex> {
        let [width, ..] = self.options.widths();
        tensor_of(self.forward(parts, lse), [parts.tokens(), width])
    }

    /// Whether recomputing the output costs little compared with the products of a block. Queries
    /// are apart in models with grouped heads, where the output is the largest part of what is
    /// kept.
    fn is_cheap(&self, parts: &Parts) -> bool {
        let mut spans = self.texts.spans().iter();
        matches!(parts, Parts::Apart(_)) && spans.all(|span| span.keys <= CHEAP_KEYS)
    }
}

/// Queries, keys and values with copies of the tokens that texts share.
struct Copies {
    parts: [Vec<f32>; 3],
    widths: [usize; 3],
}

impl Copies {
    fn new(shared: &SharedTokens, columns: [Columns<'_>; 3], widths: [usize; 3]) -> Self {
        let mut widths_of = widths.into_iter();
        Self {
            parts: columns.map(|part| shared.copied(part, widths_of.next().unwrap_or_default())),
            widths,
        }
    }

    fn columns(&self) -> [Columns<'_>; 3] {
        std::array::from_fn(|part| Columns::new(&self.parts[part], self.widths[part], 0))
    }
}

/// The gradients of queries, keys and values, in one or apart as the parts are, with their widths.
fn gradients(
    parts: &Parts,
    input: &Input<'_>,
    saved: &Saved<'_>,
    widths: [usize; 3],
) -> Vec<(Vec<f32>, usize)> {
    let tokens = input.tokens;
    let [q_width, kv_width, _] = widths;
    match parts {
        Parts::Packed(_) => {
            let width = widths.iter().sum::<usize>();
            let all = filled(tokens * width, |out| {
                let [q, k, v] = ColumnsMut::split(out, widths);
                backward(input, saved, OfParts { q, k, v });
            });
            vec![(all, width)]
        }
        Parts::Apart(_) => {
            let [mut k, mut v] = [Vec::new(), Vec::new()];
            let q = filled(tokens * q_width, |q| {
                k = filled(tokens * kv_width, |k| {
                    v = filled(tokens * kv_width, |v| {
                        let of_parts = OfParts {
                            q: ColumnsMut::new(q, q_width),
                            k: ColumnsMut::new(k, kv_width),
                            v: ColumnsMut::new(v, kv_width),
                        };
                        backward(input, saved, of_parts);
                    });
                });
            });
            vec![(q, q_width), (k, kv_width), (v, kv_width)]
        }
    }
}

#[backend_extension(Flex, Autodiff)]
pub(super) trait AttentionKernel: Backend {
    /// `q` holds queries, keys and values side by side, unless `k` and `v` are given too.
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
        call.output(&parts, None)
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
        let again = [Some(&q), k.as_ref(), v.as_ref()];
        let again = again.map(|tensor| tensor.and_then(remade::<C>));
        let inner = |tensor: OnTape<C>| tensor.into_primitive();
        let parts = Parts::new(inner(q), k.map(inner), v.map(inner));
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let mut lse = vec![0.0; call.rows(&parts) * call.options.heads];
                let output = call.output(&parts, Some(&mut lse));
                let parts = parts.without(again);
                let again = call.is_cheap(&parts).then(|| {
                    let (parts, call) = (parts.clone(), call.clone());
                    Remade::costly(move || call.forward(&parts, None))
                });
                let out = match &again {
                    Some(again) => Needed::Remade(Arc::clone(again)),
                    None => Needed::Kept(output.clone()),
                };
                let state = State {
                    parts,
                    out,
                    lse,
                    call,
                };
                let output = prepared.finish(state, output);
                if let Some(again) = again {
                    can_remake::<C>(&output, &again);
                }
                output
            }
            OpsKind::UnTracked(prepared) => prepared.finish(call.output(&parts, None)),
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    parts: Parts,
    out: Needed,
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
            out,
            lse,
            call,
        } = ops.state;
        let (tokens, [width, ..]) = (parts.tokens(), call.options.widths());
        let saved = Saved {
            out: Columns::new(out.values(), width, 0),
            lse: &lse,
            grad_out: Columns::new(values(&grad), width, 0),
        };
        let gradients = call.backward(&parts, &saved);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                let (gradient, width) = gradient;
                grads.register::<Flex>(node.id, tensor_of(gradient, [tokens, width]));
            }
        }
    }
}
