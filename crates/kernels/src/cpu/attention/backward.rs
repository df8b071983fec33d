//! Attention, backward.
//!
//! With weights P (after the softmax), dropout factors M and, of each query, delta = sum(out *
//! grad_out): dV = (P M)^T dO, dS = P (dO V^T M - delta), dQ = scale dS K, dK = scale dS^T Q.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::band::Band;
use super::product::{Causal, Product, panel};
use super::view::{Columns, ColumnsMut};
use super::weigh::Weigh;
use super::{Dims, Input, KEYS, QUERIES, Span, for_each, pack, scratch};
use crate::cpu::buffer::{for_pieces, vectorised};

/// What the forward pass left and what comes from above.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// Output of the forward pass, `[tokens, heads * head_dim]`.
    pub out: Columns<'a>,
    /// Its log-sum-exp, `[tokens, heads]`.
    pub lse: &'a [f32],
    /// Gradient of the output.
    pub grad_out: Columns<'a>,
}

/// Where the gradients go, of the shapes of the input.
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
    // What each head makes of its keys, then their sums.
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

/// Tokens of a piece of the sums over heads.
const ROWS: usize = 128;

/// Heads of queries of one text that share keys.
struct Task<'a> {
    input: &'a Input<'a>,
    saved: &'a Saved<'a>,
    /// Of queries, and of the keys and values, by key heads or by the one head of the task.
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
        let of_keys = match input.splits_groups() {
            true => dims.head(self.heads.start),
            false => kv,
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
                // The queries were scaled, and so is what they were multiplied with.
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

/// A block of keys, and the room for its products with blocks of queries.
struct Block<'a> {
    task: &'a Task<'a>,
    key: usize,
    keys: usize,
    stride: usize,
    k: &'a [f32],
    k_t: &'a [f32],
    v_t: &'a [f32],
    grad_k: &'a mut [f32],
    grad_v: &'a mut [f32],
    weights: &'a mut [f32],
    grad_scores: &'a mut [f32],
}

impl Block<'_> {
    /// Adds what the queries of a head, `[queries, stride]`, have to do with the keys.
    #[inline(always)]
    fn run<S: Simd>(
        &mut self,
        simd: S,
        head: usize,
        q: &[f32],
        grad_out: &[f32],
        grad_q: &mut [f32],
        delta: &[f32],
    ) {
        let Task {
            input, saved, span, ..
        } = *self.task;
        let (dims, key, stride) = (input.dims, self.key, self.stride);
        let band = |first: usize| Band {
            diagonal: first - key,
            window: dims.window(),
            end: span.keys - key,
        };
        let until = band(key).last_query(self.keys).saturating_add(key);
        let until = until.min(span.queries);
        for first in (key..until).step_by(QUERIES) {
            let rows = (until - first).min(QUERIES);
            let band = band(first);
            let columns = self.keys.min(band.diagonal + rows);
            let at = first * stride..;
            let (q, grad_out) = (&q[at.clone()], &grad_out[at.clone()]);
            let scores = |a, b, c| Product {
                rows,
                columns,
                depth: dims.head_dim,
                a,
                a_row: stride,
                a_depth: 1,
                b,
                b_depth: panel::<S>(),
                b_panel: panel::<S>() * dims.head_dim,
                c,
                c_row: KEYS,
                accumulate: false,
                causal: Causal::Scores(band),
            };
            simd.vectorize(scores(q, self.k_t, self.weights));
            simd.vectorize(scores(grad_out, self.v_t, self.grad_scores));
            simd.vectorize(Weigh {
                input,
                head,
                query: span.start + first,
                key,
                rows,
                columns,
                band,
                lse: saved.lse,
                delta: &delta[first..],
                weights: self.weights,
                grad_scores: self.grad_scores,
            });
            let over_queries = |a, b, c| Product {
                rows: columns,
                columns: dims.head_dim,
                depth: rows,
                a,
                a_row: 1,
                a_depth: KEYS,
                b,
                b_depth: stride,
                b_panel: panel::<S>(),
                c,
                c_row: stride,
                accumulate: true,
                causal: Causal::OverQueries(band),
            };
            simd.vectorize(over_queries(self.weights, grad_out, self.grad_v));
            simd.vectorize(over_queries(self.grad_scores, q, self.grad_k));
            simd.vectorize(Product {
                rows,
                columns: dims.head_dim,
                depth: columns,
                a: self.grad_scores,
                a_row: KEYS,
                a_depth: 1,
                b: self.k,
                b_depth: stride,
                b_panel: panel::<S>(),
                c: &mut grad_q[at],
                c_row: stride,
                accumulate: true,
                causal: Causal::OverKeys(band),
            });
        }
    }
}

/// Sum of products, in eight sums side by side.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    sums.into_iter().chain(rest).sum()
}

vectorised! {
    /// Writes the sums over the heads that share keys, `[tokens, heads * head_dim]`, of some rows.
    fn sum_groups<'a>(dims: Dims, of_heads: &'a [f32], rows: Range<usize>, to: &'a ColumnsMut<'a>) {
        let width = dims.group() * dims.head_dim;
        for row in rows {
            let of_heads = &of_heads[row * dims.query_width()..][..dims.query_width()];
            for (kv_head, group) in of_heads.chunks_exact(width).enumerate() {
                let (start, width) = dims.head(kv_head);
                // SAFETY: no other piece has this row.
                let to = unsafe { to.row(row, start, width) };
                to.fill(0.0);
                for head in group.chunks_exact(width) {
                    for (to, value) in to.iter_mut().zip(head) {
                        *to += value;
                    }
                }
            }
        }
    }

    /// Writes the gradients of the rows `(first, count)` of a head, times `scale`.
    fn write<'a>(
        to: &'a ColumnsMut<'a>,
        rows: (usize, usize),
        columns: (usize, usize),
        from: &'a [f32],
        stride: usize,
        scale: f32,
    ) {
        let (first, count) = rows;
        for (token, from) in (first..first + count).zip(from.chunks_exact(stride)) {
            // SAFETY: no other task has this head of this text.
            let to = unsafe { to.row(token, columns.0, columns.1) };
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * scale;
            }
        }
    }
}
