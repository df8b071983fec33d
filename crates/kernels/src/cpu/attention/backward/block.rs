//! Attention, backward: a block of keys with the queries of a head.

use pulp::Simd;

use super::Task;
use super::weigh::Weigh;
use crate::cpu::attention::band::Band;
use crate::cpu::attention::product::{Needed, Product, panel};
use crate::cpu::attention::{KEYS, QUERIES};

/// A block of keys, and room for its products with blocks of queries.
pub(super) struct Block<'a> {
    pub task: &'a Task<'a>,
    pub key: usize,
    pub keys: usize,
    pub stride: usize,
    pub k: &'a [f32],
    pub k_t: &'a [f32],
    pub v_t: &'a [f32],
    pub grad_k: &'a mut [f32],
    pub grad_v: &'a mut [f32],
    pub weights: &'a mut [f32],
    pub grad_scores: &'a mut [f32],
}

impl Block<'_> {
    /// Adds the gradients between these keys and the queries of a head, `[queries, stride]`.
    #[inline(always)]
    pub fn run<S: Simd>(
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
        let band = |first: usize| Band::new(&dims, first, key, span.keys);
        let of_all = band(0);
        let until = of_all.last_query(self.keys).min(span.queries);
        for first in (of_all.first_query(0)..until).step_by(QUERIES) {
            let rows = (until - first).min(QUERIES);
            let band = band(first);
            let columns = self.keys.min(band.visible(rows - 1));
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
                needed: Needed::Scores(band),
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
                needed: Needed::OverQueries(band),
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
                needed: Needed::OverKeys(band),
            });
        }
    }
}
