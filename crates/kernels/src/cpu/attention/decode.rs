//! Attention of one new token over a cache.

use pulp::{Arch, Simd, WithSimd};

use super::simd::{load, store};
use super::view::{Columns, ColumnsMut};
use super::{Dims, for_each, scratch};
use crate::cpu::exp::{exp_sum, max};

/// Keys and values of earlier tokens and of the new one.
#[derive(Debug, Clone, Copy)]
pub struct Cache<'a> {
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub keys: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub values: &'a [f32],
    /// Tokens for which there is room.
    pub capacity: usize,
    /// For each sequence, the tokens in use: those from the first on.
    pub lengths: &'a [usize],
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
    let batch = cache.lengths.len();
    let size = batch * dims.kv_heads * cache.capacity * dims.head_dim;
    q.check(batch, dims.query_width());
    assert!(
        cache.keys.len() >= size && cache.values.len() >= size,
        "a cache that is too small"
    );
    assert!(
        cache.lengths.iter().all(|&length| length <= cache.capacity),
        "a cache over-full"
    );
    let out = ColumnsMut::new(out, dims.query_width());
    out.check(batch, dims.query_width());
    let run = |index: usize| {
        let (sequence, head) = (index / dims.heads, index % dims.heads);
        arch.dispatch(Task {
            dims,
            q,
            cache,
            sequence,
            head,
            out: &out,
        });
    };
    let multiplications = cache.lengths.iter().sum::<usize>() * dims.query_width();
    for_each((0..batch * dims.heads).collect(), multiplications, run);
}

/// One head of one sequence.
struct Task<'a> {
    dims: Dims,
    q: Columns<'a>,
    cache: Cache<'a>,
    sequence: usize,
    head: usize,
    out: &'a ColumnsMut<'a>,
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
        let Self { dims, cache, .. } = *self;
        let (lanes, width) = (S::F32_LANES, dims.head_dim);
        let (start, _) = dims.head(self.head);
        let length = cache.lengths[self.sequence];
        let head = self.sequence * dims.kv_heads + self.head / dims.group();
        let rows = head * cache.capacity * width..;
        // SAFETY: no other task has this head of this sequence.
        let out = unsafe { self.out.row(self.sequence, start, width) };
        if length == 0 {
            out.fill(0.0);
            return;
        }
        scratch::with(
            [length.next_multiple_of(lanes), width],
            |[scores, query]| {
                let query = &mut query[..width];
                for (to, from) in query
                    .iter_mut()
                    .zip(self.q.row(self.sequence, start, width))
                {
                    *to = from * dims.scale;
                }
                simd.vectorize(Head {
                    query,
                    keys: &cache.keys[rows.clone()][..length * width],
                    values: &cache.values[rows][..length * width],
                    scores: &mut scores[..length.next_multiple_of(lanes)],
                    out,
                });
            },
        );
    }
}

/// A scaled query over the keys of its head.
struct Head<'a> {
    query: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    scores: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.query.len();
        let length = self.keys.len() / width;
        for (score, key) in self.scores.iter_mut().zip(self.keys.chunks_exact(width)) {
            *score = dot(simd, self.query, key);
        }
        self.scores[length..].fill(f32::NEG_INFINITY);
        let largest = max(simd, self.scores);
        let sum = exp_sum(simd, self.scores, largest);
        weigh(
            simd,
            &self.scores[..length],
            self.values,
            1.0 / sum,
            self.out,
        );
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    let whole = a.len() - a.len() % S::F32_LANES;
    let chunks = a[..whole]
        .chunks_exact(S::F32_LANES)
        .zip(b.chunks_exact(S::F32_LANES));
    for (a, b) in chunks {
        sum = simd.mul_add_e_f32s(load(simd, a), load(simd, b), sum);
    }
    let (a, b) = (
        simd.partial_load_f32s(&a[whole..]),
        simd.partial_load_f32s(&b[whole..]),
    );
    simd.reduce_sum_f32s(simd.mul_add_e_f32s(a, b, sum))
}

/// `out = scale * weights * values`.
#[inline(always)]
fn weigh<S: Simd>(simd: S, weights: &[f32], values: &[f32], scale: f32, out: &mut [f32]) {
    let (lanes, width) = (S::F32_LANES, out.len());
    let mut column = 0;
    while column + 4 * lanes <= width {
        let mut sums = [simd.splat_f32s(0.0); 4];
        for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            let weight = simd.splat_f32s(*weight);
            for i in 0..4 {
                let value = load(simd, &value[column + i * lanes..]);
                sums[i] = simd.mul_add_e_f32s(weight, value, sums[i]);
            }
        }
        for i in 0..4 {
            let sum = simd.mul_f32s(sums[i], simd.splat_f32s(scale));
            store(simd, &mut out[column + i * lanes..], sum);
        }
        column += 4 * lanes;
    }
    while column < width {
        let end = width.min(column + lanes);
        let mut sum = simd.splat_f32s(0.0);
        for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            let value = simd.partial_load_f32s(&value[column..end]);
            sum = simd.mul_add_e_f32s(simd.splat_f32s(*weight), value, sum);
        }
        let sum = simd.mul_f32s(sum, simd.splat_f32s(scale));
        simd.partial_store_f32s(&mut out[column..end], sum);
        column = end;
    }
}
