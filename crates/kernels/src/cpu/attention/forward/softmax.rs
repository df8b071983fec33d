//! The softmax of blocks of scores, updated block by block.

use pulp::{Simd, WithSimd};

use crate::cpu::attention::band::{Band, hide};
use crate::cpu::attention::simd::{load, store};
use crate::cpu::attention::softcap::cap_row;
use crate::cpu::attention::{Input, KEYS, QUERIES};
use crate::cpu::exp::{exp, exp_sum, max};
use crate::cpu::random::drop_row;

/// The softmax of each query of a block, so far.
pub(super) struct Softmax {
    /// The largest score so far.
    pub max: [f32; QUERIES],
    /// The sum of the exponentials of the scores less that maximum.
    pub sum: [f32; QUERIES],
}

/// Turns the scores of a block into weights (not yet divided by their sum), and rescales the
/// earlier sums to the new maximum.
pub(super) struct Update<'a> {
    pub softmax: &'a mut Softmax,
    pub input: &'a Input<'a>,
    pub head: usize,
    pub query: usize,
    pub key: usize,
    /// Whether `out` holds earlier sums.
    pub begun: bool,
    pub skip: usize,
    pub rows: usize,
    pub columns: usize,
    pub band: Band,
    pub scores: &'a mut [f32],
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl Softmax {
    pub fn new() -> Self {
        Self {
            max: [f32::NEG_INFINITY; QUERIES],
            sum: [0.0; QUERIES],
        }
    }
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let softcap = self.input.dims.softcap;
        let visible = |row: usize| self.columns.min(self.band.visible(row - self.skip));
        let first = |row: usize| self.band.first(row - self.skip);
        // In three passes, so that rows do not wait for each other.
        let mut largest = self.softmax.max;
        for (row, scores) in (self.skip..self.rows).zip(self.scores.chunks_exact_mut(KEYS)) {
            let (first, visible) = (first(row), visible(row));
            if softcap.is_some() {
                let whole = visible.next_multiple_of(S::F32_LANES);
                let start = first - first % S::F32_LANES;
                cap_row(simd, softcap, &mut scores[start..whole]);
            }
            let seen = hide(simd, scores, first, visible, f32::NEG_INFINITY);
            largest[row] = max(simd, &scores[seen]).max(largest[row]);
        }
        let mut factors = self.softmax.max;
        let chunks = factors.chunks_exact_mut(S::F32_LANES);
        for (factor, largest) in chunks.zip(largest.chunks_exact(S::F32_LANES)) {
            let value = exp(simd, simd.sub_f32s(load(simd, factor), load(simd, largest)));
            store(simd, factor, value);
        }
        self.softmax.max = largest;
        for (row, scores) in (self.skip..self.rows).zip(self.scores.chunks_exact_mut(KEYS)) {
            let start = first(row) - first(row) % S::F32_LANES;
            let scores = &mut scores[start..visible(row).next_multiple_of(S::F32_LANES)];
            let sum = exp_sum(simd, scores, largest[row]);
            self.softmax.sum[row] = self.softmax.sum[row] * factors[row] + sum;
            if self.begun {
                let out = &mut self.out[row * self.stride..][..self.stride];
                scale(simd, out, factors[row]);
            }
            if let Some(dropout) = self.input.dropout {
                let mask = self.input.mask_row(self.head, self.query + row);
                drop_row(simd, dropout, mask, (self.key + start) as u32, scores);
            }
        }
    }
}

/// Multiplies a row of whole vectors.
#[inline(always)]
fn scale<S: Simd>(simd: S, row: &mut [f32], factor: f32) {
    for chunk in row.chunks_exact_mut(S::F32_LANES) {
        let value = simd.mul_f32s(load(simd, chunk), simd.splat_f32s(factor));
        store(simd, chunk, value);
    }
}
