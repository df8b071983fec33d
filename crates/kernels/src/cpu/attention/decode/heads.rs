//! A few heads of queries with the keys and values that they share.

use pulp::{Simd, WithSimd};

use super::{HEADS, PIECE};
use crate::cpu::attention::simd::{load, store};
use crate::cpu::attention::softcap::cap_row;
use crate::cpu::buffer::ask_for;
use crate::cpu::exp::{exp_sum, max};

/// A few scaled queries, and the keys and values that they share.
pub(super) struct Heads<'a> {
    pub softcap: Option<f32>,
    pub queries: &'a [f32],
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub scores: &'a mut [f32],
    pub parts: &'a mut [f32],
    pub width: usize,
}

impl WithSimd for Heads<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.queries.len() / self.width {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            3 => self.run::<S, 3>(simd),
            _ => self.run::<S, HEADS>(simd),
        }
    }
}

impl Heads<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let width = self.width;
        let length = self.keys.len() / width;
        let pairs = self
            .keys
            .chunks_exact(width)
            .zip(self.values.chunks_exact(width));
        for (position, (key, value)) in pairs.enumerate() {
            // The values are read after all scores; by then they should be in the cache.
            ask_for(value);
            let products = dots::<S, N>(simd, self.queries, key);
            for (head, product) in products.iter().enumerate() {
                self.scores[head * PIECE + position] = *product;
            }
        }
        let whole = length.next_multiple_of(S::F32_LANES);
        for (scores, part) in
            (self.scores.chunks_exact_mut(PIECE)).zip(self.parts.chunks_exact_mut(width + 2))
        {
            let scores = &mut scores[..whole];
            cap_row(simd, self.softcap, scores);
            scores[length..].fill(f32::NEG_INFINITY);
            let largest = max(simd, scores);
            part[width] = largest;
            part[width + 1] = exp_sum(simd, scores, largest);
        }
        weigh::<S, N>(simd, self.scores, self.values, self.parts, width);
    }
}

/// The products of `N` vectors, which lie one after the other, with one vector.
#[inline(always)]
fn dots<S: Simd, const N: usize>(simd: S, queries: &[f32], key: &[f32]) -> [f32; N] {
    let width = key.len();
    assert_eq!(queries.len(), N * width);
    let mut sums = [simd.splat_f32s(0.0); N];
    let whole = width - width % S::F32_LANES;
    for at in (0..whole).step_by(S::F32_LANES) {
        let key = load(simd, &key[at..]);
        for head in 0..N {
            let query = load(simd, &queries[head * width + at..]);
            sums[head] = simd.mul_add_e_f32s(query, key, sums[head]);
        }
    }
    if whole < width {
        let key = simd.partial_load_f32s(&key[whole..]);
        for head in 0..N {
            let query = &queries[head * width..][..width];
            let query = simd.partial_load_f32s(&query[whole..]);
            sums[head] = simd.mul_add_e_f32s(query, key, sums[head]);
        }
    }
    let mut products = [0.0; N];
    for head in 0..N {
        products[head] = simd.reduce_sum_f32s(sums[head]);
    }
    products
}

/// The sums of the values, weighted by each head's weights.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    parts: &mut [f32],
    width: usize,
) {
    // As many sums as there are registers for.
    let columns = if N == 1 || S::F32_LANES > 8 {
        weigh_columns::<S, N, 4>(simd, weights, values, parts, width, 0)
    } else {
        0
    };
    let columns = weigh_columns::<S, N, 2>(simd, weights, values, parts, width, columns);
    for column in (columns..width).step_by(S::F32_LANES) {
        let end = width.min(column + S::F32_LANES);
        let mut sums = [simd.splat_f32s(0.0); N];
        for (position, value) in values.chunks_exact(width).enumerate() {
            let value = simd.partial_load_f32s(&value[column..end]);
            for head in 0..N {
                let weight = simd.splat_f32s(weights[head * PIECE + position]);
                sums[head] = simd.mul_add_e_f32s(weight, value, sums[head]);
            }
        }
        for (sum, part) in sums.iter().zip(parts.chunks_exact_mut(width + 2)) {
            simd.partial_store_f32s(&mut part[column..end], *sum);
        }
    }
}

/// Sums the columns from `column` on, `V` vectors at a time; returns the first column that is left.
#[inline(always)]
fn weigh_columns<S: Simd, const N: usize, const V: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    parts: &mut [f32],
    width: usize,
    mut column: usize,
) -> usize {
    let lanes = S::F32_LANES;
    while column + V * lanes <= width {
        let mut sums = [[simd.splat_f32s(0.0); V]; N];
        for (position, value) in values.chunks_exact(width).enumerate() {
            for v in 0..V {
                let value = load(simd, &value[column + v * lanes..]);
                for head in 0..N {
                    let weight = simd.splat_f32s(weights[head * PIECE + position]);
                    sums[head][v] = simd.mul_add_e_f32s(weight, value, sums[head][v]);
                }
            }
        }
        for (sums, part) in sums.iter().zip(parts.chunks_exact_mut(width + 2)) {
            for v in 0..V {
                store(simd, &mut part[column + v * lanes..], sums[v]);
            }
        }
        column += V * lanes;
    }
    column
}
