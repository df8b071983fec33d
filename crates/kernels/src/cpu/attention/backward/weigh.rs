//! From the scores of a block to its weights, and from their gradients to those of the scores.

use pulp::{Simd, WithSimd};

use crate::cpu::attention::band::{Band, hide};
use crate::cpu::attention::simd::{load, store};
use crate::cpu::attention::softcap::{cap_row, slope};
use crate::cpu::attention::{Input, KEYS};
use crate::cpu::exp::exp;
use crate::cpu::random::{factors, row_key};

/// Turns the scores of a block into the weights that the values were multiplied with, and the
/// gradients of those weights into gradients of the scores.
pub(super) struct Weigh<'a> {
    pub input: &'a Input<'a>,
    pub head: usize,
    /// The token of the first query.
    pub query: usize,
    /// The first key, counted in its text.
    pub key: usize,
    pub rows: usize,
    pub columns: usize,
    pub band: Band,
    /// The log-sum-exp of all tokens and heads.
    pub lse: &'a [f32],
    /// The delta of each query.
    pub delta: &'a [f32],
    pub weights: &'a mut [f32],
    pub grad_scores: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let softcap = self.input.dims.softcap;
        let blocks = (self.weights.chunks_exact_mut(KEYS))
            .zip(self.grad_scores.chunks_exact_mut(KEYS))
            .take(self.rows);
        for (row, (weights, grads)) in blocks.enumerate() {
            let visible = self.columns.min(self.band.visible(row));
            let first = self.band.first(row);
            if softcap.is_some() {
                let start = first - first % lanes;
                cap_row(
                    simd,
                    softcap,
                    &mut weights[start..visible.next_multiple_of(lanes)],
                );
            }
            let seen = hide(simd, weights, first, visible, f32::NEG_INFINITY);
            hide(simd, grads, first, visible, 0.0);
            let query = self.query + row;
            let lse = simd.splat_f32s(self.lse[query * self.input.dims.heads + self.head]);
            let delta = simd.splat_f32s(self.delta[row]);
            let column = self.key + seen.start;
            let pairs = (weights[seen.clone()].chunks_exact_mut(lanes))
                .zip(grads[seen].chunks_exact_mut(lanes));
            if let Some(dropout) = self.input.dropout {
                let key = row_key(dropout.seed, self.input.mask_row(self.head, query));
                let threshold = simd.splat_u32s(dropout.threshold());
                let scale = simd.splat_f32s(dropout.scale());
                for (i, (weights, grads)) in pairs.enumerate() {
                    let column = (column + i * lanes) as u32;
                    let factors = factors(simd, key, column, threshold, scale);
                    let score = load(simd, weights);
                    let weight = exp(simd, simd.sub_f32s(score, lse));
                    let grad = simd.mul_f32s(load(simd, grads), factors);
                    let grad = simd.mul_f32s(weight, simd.sub_f32s(grad, delta));
                    store(simd, weights, simd.mul_f32s(weight, factors));
                    store(
                        simd,
                        grads,
                        simd.mul_f32s(grad, slope(simd, softcap, score)),
                    );
                }
            } else {
                for (weights, grads) in pairs {
                    let score = load(simd, weights);
                    let weight = exp(simd, simd.sub_f32s(score, lse));
                    let grad = simd.sub_f32s(load(simd, grads), delta);
                    let grad = simd.mul_f32s(weight, grad);
                    store(simd, weights, weight);
                    store(
                        simd,
                        grads,
                        simd.mul_f32s(grad, slope(simd, softcap, score)),
                    );
                }
            }
        }
    }
}
