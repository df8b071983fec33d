//! Products of blocks that lie in the caches, and what of them causality leaves to be done.

use pulp::{Simd, WithSimd};

use super::simd::{lanes, load, store};

/// Rows of a register tile.
const TILE: usize = 6;

/// Which part of a product is needed. Query `i` of a block sees the keys `0..=i + diagonal` of a
/// block; what is left out is not touched in `c` and counted as zero in `a`.
#[derive(Clone, Copy)]
pub(crate) enum Causal {
    /// Rows are queries, columns keys.
    Scores { diagonal: usize },
    /// Rows are queries, the depth keys.
    OverKeys { diagonal: usize },
    /// Rows are keys, the depth queries.
    OverQueries { diagonal: usize },
}

/// Prepares a row of scores of which the first `visible` are seen: sets the rest of the last vector
/// to `hidden`, and to zero what follows and is read by tiles whose other rows see more.
#[inline(always)]
pub(crate) fn hide<S: Simd>(simd: S, row: &mut [f32], visible: usize, hidden: f32) {
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
    for chunk in row[whole..end].chunks_exact_mut(S::F32_LANES) {
        store(simd, chunk, simd.splat_f32s(0.0));
    }
}

/// Columns of a panel: what a register tile holds besides its operands.
pub(crate) const fn panel<S: Simd>() -> usize {
    vectors::<S>() * S::F32_LANES
}

const fn vectors<S: Simd>() -> usize {
    if S::F32_LANES == 8 { 2 } else { 4 }
}

/// `c[r][j] += sum over k of a(r, k) * b[k][j]` (or `=`).
pub(crate) struct Product<'a> {
    /// Rows of `c`.
    pub rows: usize,
    /// Columns of `c`; `b` and `c` must hold this many rounded up to whole vectors.
    pub columns: usize,
    /// Terms of a sum.
    pub depth: usize,
    /// Elements `a(r, k)` at `r * a_row + k * a_depth`.
    pub a: &'a [f32],
    /// Distance of the rows of `a`.
    pub a_row: usize,
    /// Distance of the terms of `a`.
    pub a_depth: usize,
    /// Panels of [`panel`] columns, in each the rows `b[k]`.
    pub b: &'a [f32],
    /// Distance of the terms of `b`.
    pub b_depth: usize,
    /// Distance of the panels of `b`.
    pub b_panel: usize,
    /// Result, rows of consecutive columns.
    pub c: &'a mut [f32],
    /// Distance of the rows of `c`.
    pub c_row: usize,
    /// Whether `c` is added to, or written.
    pub accumulate: bool,
    /// What may be left out.
    pub causal: Causal,
}

impl Product<'_> {
    /// Columns of the tile that ends before row `end`, and the range of its sums.
    #[inline(always)]
    fn needed(&self, start: usize, end: usize) -> (usize, usize, usize) {
        match self.causal {
            Causal::Scores { diagonal } => (self.columns.min(end + diagonal), 0, self.depth),
            Causal::OverKeys { diagonal } => (self.columns, 0, self.depth.min(end + diagonal)),
            Causal::OverQueries { diagonal } => (
                self.columns,
                start.saturating_sub(diagonal).min(self.depth),
                self.depth,
            ),
        }
    }

    /// Panics unless every element that the tiles touch lies in its slice.
    fn check<S: Simd>(&self) {
        let (panel, lanes) = (panel::<S>(), S::F32_LANES);
        let (rows, terms) = (self.rows - 1, self.depth - 1);
        let panels = (self.columns - 1) / panel;
        let tail = (self.columns - panels * panel).next_multiple_of(lanes);
        assert!(self.a.len() > rows * self.a_row + terms * self.a_depth);
        let full = if panels > 0 {
            (panels - 1) * self.b_panel + panel
        } else {
            0
        };
        assert!(self.b.len() >= terms * self.b_depth + full.max(panels * self.b_panel + tail));
        assert!(self.c.len() >= rows * self.c_row + panels * panel + tail);
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.rows == 0 || self.columns == 0 || self.depth == 0 {
            assert!(self.accumulate || self.rows * self.columns == 0);
            return;
        }
        self.check::<S>();
        let panel = panel::<S>();
        for column in (0..self.columns).step_by(panel) {
            for start in (0..self.rows).step_by(TILE) {
                let end = self.rows.min(start + TILE);
                let (columns, first, last) = self.needed(start, end);
                if columns <= column {
                    continue;
                }
                let vectors = (columns - column).min(panel).div_ceil(S::F32_LANES);
                // SAFETY: the tile is part of the product that `check` has seen.
                unsafe {
                    let tile = Tile {
                        depth: last - first,
                        a: self
                            .a
                            .as_ptr()
                            .add(start * self.a_row + first * self.a_depth),
                        a_row: self.a_row,
                        a_depth: self.a_depth,
                        b: (self.b.as_ptr())
                            .add(column / panel * self.b_panel + first * self.b_depth),
                        b_depth: self.b_depth,
                        c: self.c.as_mut_ptr().add(start * self.c_row + column),
                        c_row: self.c_row,
                        accumulate: self.accumulate,
                    };
                    match vectors {
                        1 => tile.rows::<S, 1>(simd, end - start),
                        2 => tile.rows::<S, 2>(simd, end - start),
                        3 => tile.rows::<S, 3>(simd, end - start),
                        _ => tile.rows::<S, 4>(simd, end - start),
                    }
                }
            }
        }
    }
}

/// A piece of `c` that lies in registers while its sums are made.
struct Tile {
    depth: usize,
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    b_depth: usize,
    c: *mut f32,
    c_row: usize,
    accumulate: bool,
}

impl Tile {
    #[inline(always)]
    unsafe fn rows<S: Simd, const V: usize>(self, simd: S, rows: usize) {
        unsafe {
            match rows {
                1 => self.run::<S, 1, V>(simd),
                2 => self.run::<S, 2, V>(simd),
                3 => self.run::<S, 3, V>(simd),
                4 => self.run::<S, 4, V>(simd),
                5 => self.run::<S, 5, V>(simd),
                _ => self.run::<S, 6, V>(simd),
            }
        }
    }

    /// # Safety
    ///
    /// The pointers must be good for `R` rows, `V` vectors and `depth` terms at their distances.
    #[inline(always)]
    unsafe fn run<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let (mut a, mut b) = (self.a, self.b);
        unsafe {
            for _ in 0..self.depth {
                let mut terms = [simd.splat_f32s(0.0); V];
                for (v, term) in terms.iter_mut().enumerate() {
                    *term = b.add(v * lanes).cast::<S::f32s>().read_unaligned();
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = simd.splat_f32s(*a.add(r * self.a_row));
                    for (sum, term) in sums.iter_mut().zip(terms) {
                        *sum = simd.mul_add_e_f32s(factor, term, *sum);
                    }
                }
                // The last step may leave the slice: wrapping, and never read.
                a = a.wrapping_add(self.a_depth);
                b = b.wrapping_add(self.b_depth);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let c = self.c.add(r * self.c_row + v * lanes).cast::<S::f32s>();
                    let sum = match self.accumulate {
                        true => simd.add_f32s(c.read_unaligned(), *sum),
                        false => *sum,
                    };
                    c.write_unaligned(sum);
                }
            }
        }
    }
}
