//! Attention of one new token over a cache.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::simd::{load, store};
use super::softcap::cap_row;
use super::view::Columns;
use super::{Dims, for_each, scratch};
use crate::cpu::exp::{exp_one, exp_sum, max};

/// Positions of a piece: of a long text there are enough for all threads.
const PIECE: usize = 256;

/// Heads of queries that meet a key or value while it is in registers.
const HEADS: usize = 4;

/// Keys and values of earlier tokens and of the new one.
#[derive(Debug, Clone, Copy)]
pub struct Cache<'a> {
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub keys: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub values: &'a [f32],
    /// Tokens for which there is room.
    pub capacity: usize,
    /// For each sequence, the tokens that are seen: a window is part of this.
    pub seen: &'a [Range<usize>],
}

/// Output `[batch, heads * head_dim]` of the new token of each sequence, whose queries are `q` of
/// the same shape. A sequence without tokens has zeros.
///
/// # Panics
///
/// If shapes do not fit each other.
pub fn decode(dims: Dims, q: Columns, cache: Cache, out: &mut [f32]) {
    decode_on(Arch::new(), dims, q, cache, out);
}

pub(super) fn decode_on(arch: Arch, dims: Dims, q: Columns, cache: Cache, out: &mut [f32]) {
    dims.check();
    let batch = cache.seen.len();
    let size = batch * dims.kv_heads * cache.capacity * dims.head_dim;
    q.check(batch, dims.query_width());
    assert!(
        cache.keys.len() >= size && cache.values.len() >= size,
        "a cache that is too small"
    );
    assert!(
        cache.seen.iter().all(|seen| seen.end <= cache.capacity),
        "a cache over-full"
    );
    assert_eq!(
        out.len(),
        batch * dims.query_width(),
        "a result of {batch} rows"
    );
    let pieces: Vec<_> = (cache.seen.iter().enumerate())
        .flat_map(|(sequence, seen)| {
            let heads = 0..dims.kv_heads;
            heads.flat_map(move |kv_head| {
                let starts = seen.clone().step_by(PIECE);
                starts.map(move |start| Piece {
                    sequence,
                    kv_head,
                    positions: start..seen.end.min(start + PIECE),
                })
            })
        })
        .collect();
    // For each head of a piece, the sum of the weighted values, the largest score, and the sum of
    // the weights.
    let width = dims.head_dim + 2;
    let mut parts = vec![0.0; pieces.len() * dims.group() * width];
    let tasks: Vec<_> = (pieces.iter())
        .zip(parts.chunks_exact_mut(dims.group() * width))
        .collect();
    let tokens: usize = cache.seen.iter().map(ExactSizeIterator::len).sum();
    for_each(tasks, tokens * dims.query_width(), |(piece, parts)| {
        piece.run(arch, dims, q, cache, parts);
    });
    out.fill(0.0);
    let parts = parts.chunks_exact(dims.group() * width);
    let mut pieces = pieces.iter().zip(parts).peekable();
    while let Some((first, parts)) = pieces.next() {
        let mut of_head = vec![parts];
        let same = |(piece, _): &(&Piece, &[f32])| piece.is_with(first);
        while let Some((_, parts)) = pieces.next_if(same) {
            of_head.push(parts);
        }
        for in_group in 0..dims.group() {
            let head = first.kv_head * dims.group() + in_group;
            let at = first.sequence * dims.query_width() + head * dims.head_dim;
            let parts = of_head
                .iter()
                .map(|parts| &parts[in_group * width..][..width]);
            combine(parts, &mut out[at..at + dims.head_dim]);
        }
    }
}

/// Sums up the parts of a head.
fn combine<'a>(parts: impl Iterator<Item = &'a [f32]> + Clone, out: &mut [f32]) {
    let width = out.len();
    let largest = parts
        .clone()
        .map(|part| part[width])
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for part in parts {
        let factor = exp_one(part[width] - largest);
        sum += factor * part[width + 1];
        for (out, value) in out.iter_mut().zip(part) {
            *out += factor * value;
        }
    }
    out.iter_mut().for_each(|out| *out /= sum);
}

/// Some positions of a head of keys of one sequence.
struct Piece {
    sequence: usize,
    kv_head: usize,
    positions: Range<usize>,
}

impl Piece {
    fn is_with(&self, other: &Self) -> bool {
        (self.sequence, self.kv_head) == (other.sequence, other.kv_head)
    }

    /// Fills the parts of all heads that share the keys.
    fn run(&self, arch: Arch, dims: Dims, q: Columns, cache: Cache, parts: &mut [f32]) {
        let width = dims.head_dim;
        let head = self.sequence * dims.kv_heads + self.kv_head;
        let first = (head * cache.capacity + self.positions.start) * width;
        let rows = first..first + self.positions.len() * width;
        let first = self.kv_head * dims.group();
        let queries = q.row(self.sequence, first * width, dims.group() * width);
        let heads = (queries.chunks(HEADS * width)).zip(parts.chunks_mut(HEADS * (width + 2)));
        scratch::with([HEADS * width, HEADS * PIECE], |[scaled, scores]| {
            for (queries, parts) in heads {
                for (to, from) in scaled.iter_mut().zip(queries) {
                    *to = from * dims.scale;
                }
                arch.dispatch(Heads {
                    softcap: dims.softcap,
                    queries: &scaled[..queries.len()],
                    keys: &cache.keys[rows.clone()],
                    values: &cache.values[rows.clone()],
                    scores,
                    parts,
                    width,
                });
            }
        });
    }
}

/// A few scaled queries over the keys that they share.
struct Heads<'a> {
    softcap: Option<f32>,
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    scores: &'a mut [f32],
    parts: &'a mut [f32],
    width: usize,
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
        for (position, key) in self.keys.chunks_exact(width).enumerate() {
            let products = dots::<S, N>(simd, self.queries, key);
            for head in 0..N {
                self.scores[head * PIECE + position] = products[head];
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

/// The products of `N` vectors, one after the other, with one.
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

/// The sums of the values by the weights of each head.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    parts: &mut [f32],
    width: usize,
) {
    // As many sums as there are registers for.
    let columns = match N == 1 || S::F32_LANES > 8 {
        true => weigh_columns::<S, N, 4>(simd, weights, values, parts, width, 0),
        false => 0,
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

/// The columns from `column` on, as far as `V` vectors go into them; returns the first one left.
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
