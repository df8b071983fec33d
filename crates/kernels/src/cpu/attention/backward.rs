//! Attention, backward.
//!
//! With weights P (after the softmax), dropout factors M and, of each query, delta = sum(out *
//! grad_out): dV = (P M)^T dO, dS = P (dO V^T M - delta), dQ = scale dS K, dK = scale dS^T Q.

use pulp::{Arch, Simd, WithSimd};

use super::product::{Causal, Product, hide, panel};
use super::simd::{load, store};
use super::view::{Columns, ColumnsMut};
use super::{Input, KEYS, QUERIES, Span, for_each, pack, scratch};
use crate::cpu::buffer::vectorised;
use crate::cpu::exp::exp;
use crate::cpu::random::{factors, row_key};

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
    for_each(
        input.tasks(dims.kv_heads),
        input.multiplications(),
        |(span, head)| {
            arch.dispatch(Task {
                input,
                saved,
                grads: &grads,
                span,
                head,
            });
        },
    );
}

/// One head of keys of one text, with the heads of queries that share it.
struct Task<'a> {
    input: &'a Input<'a>,
    saved: &'a Saved<'a>,
    grads: &'a Gradients<'a>,
    span: Span,
    head: usize,
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
        let (dims, kv) = (input.dims, input.dims.head(self.head));
        let stride = dims.head_dim.next_multiple_of(S::F32_LANES);
        let queries = dims.group() * span.queries;
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
                for in_group in 0..dims.group() {
                    for first in (key..span.queries).step_by(QUERIES) {
                        let rows = (span.queries - first).min(QUERIES);
                        let diagonal = first - key;
                        let columns = keys.min(diagonal + rows);
                        let at = in_group * span.queries + first;
                        let q = &q[at * stride..];
                        let grad_out = &grad_out[at * stride..];
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
                            causal: Causal::Scores { diagonal },
                        };
                        simd.vectorize(scores(q, k_t, weights));
                        simd.vectorize(scores(grad_out, v_t, grad_scores));
                        simd.vectorize(Weigh {
                            input,
                            head: self.head * dims.group() + in_group,
                            query: span.start + first,
                            key,
                            rows,
                            columns,
                            diagonal,
                            lse: self.saved.lse,
                            delta: &delta[at..],
                            weights,
                            grad_scores,
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
                            causal: Causal::OverQueries { diagonal },
                        };
                        simd.vectorize(over_queries(weights, grad_out, grad_v));
                        simd.vectorize(over_queries(grad_scores, q, grad_k));
                        simd.vectorize(Product {
                            rows,
                            columns: dims.head_dim,
                            depth: columns,
                            a: grad_scores,
                            a_row: KEYS,
                            a_depth: 1,
                            b: k,
                            b_depth: stride,
                            b_panel: panel::<S>(),
                            c: &mut grad_q[at * stride..],
                            c_row: stride,
                            accumulate: true,
                            causal: Causal::OverKeys { diagonal },
                        });
                    }
                }
                // The queries were scaled, and so is what they were multiplied with.
                write(
                    &self.grads.k,
                    (span.start + key, keys),
                    kv,
                    grad_k,
                    stride,
                    1.0,
                );
                write(
                    &self.grads.v,
                    (span.start + key, keys),
                    kv,
                    grad_v,
                    stride,
                    1.0,
                );
            }
            for in_group in 0..dims.group() {
                let head = dims.head(self.head * dims.group() + in_group);
                let grad = &grad_q[in_group * span.queries * stride..];
                write(
                    &self.grads.q,
                    (span.start, span.queries),
                    head,
                    grad,
                    stride,
                    dims.scale,
                );
            }
            for token in span.start + span.keys..span.start + span.queries {
                // SAFETY: no other task has this head of this text.
                unsafe { self.grads.k.row(token, kv.0, kv.1) }.fill(0.0);
                // SAFETY: as above.
                unsafe { self.grads.v.row(token, kv.0, kv.1) }.fill(0.0);
            }
        });
    }

    /// Copies the queries (scaled) and the gradients of the outputs of all heads of the group, and
    /// makes the deltas.
    fn prepare(&self, q: &mut [f32], grad_out: &mut [f32], delta: &mut [f32], stride: usize) {
        let Self {
            input, saved, span, ..
        } = *self;
        let dims = input.dims;
        let from = (span.start, span.queries);
        for in_group in 0..dims.group() {
            let head = dims.head(self.head * dims.group() + in_group);
            let at = in_group * span.queries;
            pack::scaled_rows(
                input.q,
                from,
                head,
                dims.scale,
                &mut q[at * stride..],
                stride,
            );
            pack::rows(
                saved.grad_out,
                from,
                head,
                &mut grad_out[at * stride..],
                stride,
            );
            for (row, delta) in delta[at..][..span.queries].iter_mut().enumerate() {
                let out = saved.out.row(span.start + row, head.0, head.1);
                let grad_out = saved.grad_out.row(span.start + row, head.0, head.1);
                *delta = dot(out, grad_out);
            }
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

/// Of a block: scores into the weights that the values met, and gradients of these into gradients
/// of the scores.
struct Weigh<'a> {
    input: &'a Input<'a>,
    head: usize,
    query: usize,
    key: usize,
    rows: usize,
    columns: usize,
    diagonal: usize,
    lse: &'a [f32],
    delta: &'a [f32],
    weights: &'a mut [f32],
    grad_scores: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let blocks = (self.weights.chunks_exact_mut(KEYS))
            .zip(self.grad_scores.chunks_exact_mut(KEYS))
            .take(self.rows);
        for (row, (weights, grads)) in blocks.enumerate() {
            let visible = self.columns.min(row + self.diagonal + 1);
            let whole = visible.next_multiple_of(lanes);
            hide(simd, weights, visible, f32::NEG_INFINITY);
            hide(simd, grads, visible, 0.0);
            let query = self.query + row;
            let lse = simd.splat_f32s(self.lse[query * self.input.dims.heads + self.head]);
            let delta = simd.splat_f32s(self.delta[row]);
            let pairs = (weights[..whole].chunks_exact_mut(lanes))
                .zip(grads[..whole].chunks_exact_mut(lanes));
            if let Some(dropout) = self.input.dropout {
                let key = row_key(dropout.seed, self.input.mask_row(self.head, query));
                let threshold = simd.splat_u32s(dropout.threshold());
                let scale = simd.splat_f32s(dropout.scale());
                for (i, (weights, grads)) in pairs.enumerate() {
                    let column = (self.key + i * lanes) as u32;
                    let factors = factors(simd, key, column, threshold, scale);
                    let weight = exp(simd, simd.sub_f32s(load(simd, weights), lse));
                    let grad = simd.mul_f32s(load(simd, grads), factors);
                    store(simd, weights, simd.mul_f32s(weight, factors));
                    store(
                        simd,
                        grads,
                        simd.mul_f32s(weight, simd.sub_f32s(grad, delta)),
                    );
                }
            } else {
                for (weights, grads) in pairs {
                    let weight = exp(simd, simd.sub_f32s(load(simd, weights), lse));
                    let grad = simd.sub_f32s(load(simd, grads), delta);
                    store(simd, weights, weight);
                    store(simd, grads, simd.mul_f32s(weight, grad));
                }
            }
        }
    }
}
