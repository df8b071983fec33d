//! Which keys of a block the queries of a block see.

use pulp::Simd;

use super::product::TILE;
use super::simd::{lanes, load, store};

/// Query `i` of a block sees the keys `first(i)..=i + diagonal` of a block, as far as it has them.
#[derive(Clone, Copy)]
pub(crate) struct Band {
    /// The last key that query 0 sees.
    pub diagonal: usize,
    /// Keys that a query sees at most.
    pub window: usize,
    /// Keys that the text has from this block on; later queries see what the last key's does.
    pub end: usize,
}

impl Band {
    /// The first key that a query sees.
    #[inline(always)]
    pub fn first(&self, query: usize) -> usize {
        (query + self.diagonal + 1)
            .min(self.end)
            .saturating_sub(self.window)
    }

    /// The keys before this one are seen by no query from the returned one on.
    #[inline(always)]
    pub fn last_query(&self, keys: usize) -> usize {
        if keys > self.end.saturating_sub(self.window) {
            return usize::MAX;
        }
        (keys + self.window).saturating_sub(self.diagonal + 1)
    }
}

/// Prepares a row of scores of which those of the keys `first..visible` are seen: sets the rest of
/// their first and last vector to `hidden`, and to zero what lies around and is read by tiles whose
/// other rows see more. Returns the range of whole vectors that holds the seen ones.
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
