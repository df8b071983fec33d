//! Which keys of a block the queries of a block see.

use pulp::Simd;

use super::Dims;
use super::product::TILE;
use super::simd::{lanes, load, store};

/// Query `i` of a block of queries sees the keys `first(i)..visible(i)` of a block of keys, as far
/// as the block has them. Both ends rise with `i`.
#[derive(Clone, Copy)]
pub(crate) struct Band {
    /// The key at which query 0 stands; negative if it lies before the block.
    own: isize,
    /// Keys before its own that a query sees at most.
    before: isize,
    /// Keys after its own that a query sees at most.
    after: isize,
    /// Keys that the text has from this block on.
    end: isize,
    /// The last key that queries stand at: causal ones stand no later than the text's last key.
    last: isize,
}

impl Band {
    /// For the queries from `query` on and the keys from `key` on of a text with `keys` keys.
    pub fn new(dims: &Dims, query: usize, key: usize, keys: usize) -> Self {
        let end = keys as isize - key as isize;
        Self {
            own: query as isize - key as isize,
            before: dims.before() as isize,
            after: dims.after() as isize,
            end,
            last: if dims.causal { end - 1 } else { isize::MAX },
        }
    }

    /// The key at which a query stands.
    #[inline(always)]
    fn at(&self, query: usize) -> isize {
        (query as isize + self.own).min(self.last)
    }

    /// The first key that a query sees; a number beyond the text's keys if it sees none.
    #[inline(always)]
    pub fn first(&self, query: usize) -> usize {
        (self.at(query) - self.before).max(0) as usize
    }

    /// The key after the last one that a query sees.
    #[inline(always)]
    pub fn visible(&self, query: usize) -> usize {
        (self.at(query) + self.after + 1).clamp(0, self.end) as usize
    }

    /// The first query that sees a key, or one after it.
    #[inline(always)]
    pub fn first_query(&self, key: usize) -> usize {
        (key as isize - self.own - self.after).max(0) as usize
    }

    /// The first query from which on no query sees any of the first `keys` keys.
    #[inline(always)]
    pub fn last_query(&self, keys: usize) -> usize {
        if keys as isize > self.last - self.before {
            return usize::MAX;
        }
        (keys as isize + self.before - self.own).max(0) as usize
    }
}

/// Prepares a row of scores in which the keys `first..visible` are seen. Sets the rest of their
/// first and last vectors to `hidden`. Sets the scores around them to zero as far as tiles read
/// them whose other rows see more. Returns the range of whole vectors that holds the seen keys.
#[inline(always)]
pub(crate) fn hide<S: Simd>(
    simd: S,
    row: &mut [f32],
    first: usize,
    visible: usize,
    hidden: f32,
) -> std::ops::Range<usize> {
    let whole = visible.next_multiple_of(S::F32_LANES);
    let last = &mut row[whole - S::F32_LANES..];
    let seen = simd.splat_u32s((visible + S::F32_LANES - whole) as u32);
    let seen = simd.less_than_u32s(lanes(simd), seen);
    store(
        simd,
        last,
        simd.select_f32s(seen, load(simd, last), simd.splat_f32s(hidden)),
    );
    let end = (visible + TILE - 1)
        .next_multiple_of(S::F32_LANES)
        .min(row.len());
    clear(simd, &mut row[whole..end]);
    let start = first - first % S::F32_LANES;
    if first > start {
        let vector = &mut row[start..];
        let unseen = simd.splat_u32s((first - start) as u32);
        let unseen = simd.less_than_u32s(lanes(simd), unseen);
        let kept = simd.select_f32s(unseen, simd.splat_f32s(hidden), load(simd, vector));
        store(simd, vector, kept);
    }
    let before = first.saturating_sub(TILE - 1);
    clear(simd, &mut row[before - before % S::F32_LANES..start]);
    start..whole
}

#[inline(always)]
fn clear<S: Simd>(simd: S, row: &mut [f32]) {
    for chunk in row.chunks_exact_mut(S::F32_LANES) {
        store(simd, chunk, simd.splat_f32s(0.0));
    }
}
