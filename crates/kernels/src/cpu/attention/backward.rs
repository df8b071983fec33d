//! Attention, backward.
//!
//! With weights P (after the softmax), dropout factors M and, for each query, delta = sum(out *
//! grad_out): dV = (P M)^T dO, dS = P (dO V^T M - delta), dQ = scale dS K, dK = scale dS^T Q.

mod block;
mod rows;
mod weigh;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use self::block::Block;
use self::rows::{dot, sum_groups, write};
use super::view::{Columns, ColumnsMut};
use super::{Input, KEYS, QUERIES, Span, for_each, pack, scratch};
use crate::cpu::buffer::for_pieces;

/// What the forward pass saved, and the gradient of its output.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// Output of the forward pass, `[tokens, heads * head_dim]`.
    pub out: Columns<'a>,
    /// Its log-sum-exp, `[tokens, heads]`.
    pub lse: &'a [f32],
    /// Gradient of the output, `[tokens, heads * head_dim]`.
    pub grad_out: Columns<'a>,
}

/// Where the gradients are written, in the shapes of the inputs.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the queries.
    pub q: ColumnsMut<'a>,
    /// Of the keys.
    pub k: ColumnsMut<'a>,
    /// Of the values.
    pub v: ColumnsMut<'a>,
}

/// Writes the gradients of queries, keys and values.
///
/// # Panics
///
/// If shapes or spans do not fit each other.
pub fn backward(input: &Input, saved: &Saved, grads: Gradients) {
    backward_on(Arch::new(), input, saved, grads);
}

pub(super) fn backward_on(arch: Arch, input: &Input, saved: &Saved, mut grads: Gradients) {
    input.check();
    let dims = input.dims;
    saved.out.check(input.tokens, dims.query_width());
    saved.grad_out.check(input.tokens, dims.query_width());
    assert!(
        saved.lse.len() >= input.tokens * dims.heads,
        "log-sum-exp of too few tokens"
    );
    grads.q.check(input.tokens, dims.query_width());
    grads.k.check(input.tokens, dims.key_width());
    grads.v.check(input.tokens, dims.key_width());
    for gap in input.gaps() {
        for grad in [&mut grads.q, &mut grads.k, &mut grads.v] {
            grad.clear(gap.clone());
        }
    }
    let run = |of_keys: [&ColumnsMut; 2]| {
        for_each(input.tasks(), input.multiplications(), |(span, heads)| {
            arch.dispatch(Task {
                input,
                saved,
                grads: [&grads.q, of_keys[0], of_keys[1]],
                span,
                heads,
            });
        });
    };
    if !input.splits_groups() {
        return run([&grads.k, &grads.v]);
    }
    // First the gradients from each head of queries, then their sums over heads that share keys.
    let width = dims.query_width();
    let [mut k, mut v] = [(); 2].map(|()| vec![0.0; input.tokens * width]);
    run([
        &ColumnsMut::new(&mut k, width),
        &ColumnsMut::new(&mut v, width),
    ]);
    for span in input.spans.iter().filter(|span| span.keys > 0) {
        for_pieces(span.queries, ROWS, |rows| {
            let rows = span.start + rows.start..span.start + rows.end;
            sum_groups(dims, &k, rows.clone(), &grads.k);
            sum_groups(dims, &v, rows, &grads.v);
        });
    }
}

/// Tokens in a piece of the sums over heads.
const ROWS: usize = 128;

/// Heads of queries of one text that share keys.
struct Task<'a> {
    input: &'a Input<'a>,
    saved: &'a Saved<'a>,
    /// Gradients of queries, keys and values; the last two by heads of keys, or by heads of queries
    /// where a task has one of them.
    grads: [&'a ColumnsMut<'a>; 3],
    span: Span,
    heads: Range<usize>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run(simd);
    }
}

impl Task<'_> {
    fn run<S: Simd>(&self, simd: S) {
        let Self { input, span, .. } = *self;
        let [grads_q, grads_k, grads_v] = self.grads;
        let dims = input.dims;
        let kv = dims.head(self.heads.start / dims.group());
        let of_keys = if input.splits_groups() {
            dims.head(self.heads.start)
        } else {
            kv
        };
        let stride = dims.head_dim.next_multiple_of(S::F32_LANES);
        let queries = self.heads.len() * span.queries;
        let (rows, columns) = (QUERIES.min(span.queries), KEYS.min(span.keys));
        let transposed = pack::transposed_len::<S>(columns, dims.head_dim);
        let lengths = [
            queries * stride,
            queries * stride,
            queries * stride,
            queries,
            columns * stride,
            transposed,
            transposed,
            columns * stride,
            columns * stride,
            rows * KEYS,
            rows * KEYS,
        ];
        scratch::with(lengths, |buffers| {
            let [
                q,
                grad_out,
                grad_q,
                delta,
                k,
                k_t,
                v_t,
                grad_k,
                grad_v,
                weights,
                grad_scores,
            ] = buffers;
            self.prepare(q, grad_out, delta, stride);
            grad_q[..queries * stride].fill(0.0);
            for key in (0..span.keys).step_by(KEYS) {
                let keys = (span.keys - key).min(KEYS);
                let from = (span.start + key, keys);
                pack::rows(input.k, from, kv, k, stride);
                pack::transposed(simd, input.k, from, kv, k_t);
                pack::transposed(simd, input.v, from, kv, v_t);
                grad_k[..keys * stride].fill(0.0);
                grad_v[..keys * stride].fill(0.0);
                let mut block = Block {
                    task: self,
                    key,
                    keys,
                    stride,
                    k,
                    k_t,
                    v_t,
                    grad_k,
                    grad_v,
                    weights,
                    grad_scores,
                };
                for (number, head) in self.heads.clone().enumerate() {
                    let at = number * span.queries;
                    let (q, grad_out) = (&q[at * stride..], &grad_out[at * stride..]);
                    block.run(
                        simd,
                        head,
                        q,
                        grad_out,
                        &mut grad_q[at * stride..],
                        &delta[at..],
                    );
                }
                // The queries were scaled, so their products need no scaling.
                write(grads_k, from, of_keys, grad_k, stride, 1.0);
                write(grads_v, from, of_keys, grad_v, stride, 1.0);
            }
            for (number, head) in self.heads.clone().enumerate() {
                let grad = &grad_q[number * span.queries * stride..];
                let to = (span.start, span.queries);
                write(grads_q, to, dims.head(head), grad, stride, dims.scale);
            }
            for token in span.start + span.keys..span.start + span.queries {
                for grads in [grads_k, grads_v] {
                    // SAFETY: no other task has this head of this text.
                    unsafe { grads.row(token, of_keys.0, of_keys.1) }.fill(0.0);
                }
            }
        });
    }

    /// Copies the queries (scaled) and the gradients of the outputs of all heads, and makes the
    /// deltas.
    fn prepare(&self, q: &mut [f32], grad_out: &mut [f32], delta: &mut [f32], stride: usize) {
        let Self {
            input, saved, span, ..
        } = *self;
        let dims = input.dims;
        let from = (span.start, span.queries);
        for (number, head) in self.heads.clone().enumerate() {
            let head = dims.head(head);
            let at = number * span.queries;
            let (q, grad_out) = (&mut q[at * stride..], &mut grad_out[at * stride..]);
            pack::scaled_rows(input.q, from, head, dims.scale, q, stride);
            pack::rows(saved.grad_out, from, head, grad_out, stride);
            for (row, delta) in delta[at..][..span.queries].iter_mut().enumerate() {
                let out = saved.out.row(span.start + row, head.0, head.1);
                let grad_out = saved.grad_out.row(span.start + row, head.0, head.1);
                *delta = dot(out, grad_out);
            }
        }
    }
}
