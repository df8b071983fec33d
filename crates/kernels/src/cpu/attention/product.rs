//! Products of blocks in the caches, as far as the band of keys that queries see needs them.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::band::Band;

/// Rows of a register tile.
pub(crate) const TILE: usize = 6;

/// Which part of a product is needed. The rest is not written in `c`, and counts as zero in `a`.
#[derive(Clone, Copy)]
pub(crate) enum Needed {
    /// Rows are queries, columns keys.
    Scores(Band),
    /// Rows are queries, the depth keys.
    OverKeys(Band),
    /// Rows are keys, the depth queries.
    OverQueries(Band),
}

/// Columns of a panel: as many as a register tile holds besides its operands.
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
    /// Distance between the rows of `a`.
    pub a_row: usize,
    /// Distance between the terms of `a`.
    pub a_depth: usize,
    /// Panels of [`panel`] columns, in each the rows `b[k]`.
    pub b: &'a [f32],
    /// Distance between the terms of `b`.
    pub b_depth: usize,
    /// Distance between the panels of `b`.
    pub b_panel: usize,
    /// Result, rows of consecutive columns.
    pub c: &'a mut [f32],
    /// Distance between the rows of `c`.
    pub c_row: usize,
    /// Whether the product is added to `c` or replaces it.
    pub accumulate: bool,
    /// The part that is needed.
    pub needed: Needed,
}

impl Product<'_> {
    /// The columns that the tile of these rows needs, and the terms of its sums.
    #[inline(always)]
    fn needed(&self, start: usize, end: usize) -> (Range<usize>, Range<usize>) {
        match self.needed {
            Needed::Scores(band) => {
                let columns = band.first(start)..self.columns.min(band.visible(end - 1));
                (columns, 0..self.depth)
            }
            Needed::OverKeys(band) => {
                let last = self.depth.min(band.visible(end - 1));
                (0..self.columns, band.first(start).min(last)..last)
            }
            Needed::OverQueries(band) => {
                let last = self.depth.min(band.last_query(end));
                let first = band.first_query(start).min(last);
                (0..self.columns, first..last)
            }
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
                let (columns, terms) = self.needed(start, end);
                if columns.end <= column || columns.start >= column + panel {
                    continue;
                }
                let vectors = (columns.end - column).min(panel).div_ceil(S::F32_LANES);
                // SAFETY: the tile is part of the product that `check` has seen.
                unsafe {
                    let tile = Tile {
                        depth: terms.len(),
                        a: self
                            .a
                            .as_ptr()
                            .add(start * self.a_row + terms.start * self.a_depth),
                        a_row: self.a_row,
                        a_depth: self.a_depth,
                        b: (self.b.as_ptr())
                            .add(column / panel * self.b_panel + terms.start * self.b_depth),
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

/// A piece of `c` that is in registers while its sums are made.
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
    /// The pointers must be valid for `R` rows, `V` vectors and `depth` terms at their distances.
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
                // Wrapping, because the last step may leave the slice; it is not read then.
                a = a.wrapping_add(self.a_depth);
                b = b.wrapping_add(self.b_depth);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let c = self.c.add(r * self.c_row + v * lanes).cast::<S::f32s>();
                    let sum = if self.accumulate {
                        simd.add_f32s(c.read_unaligned(), *sum)
                    } else {
                        *sum
                    };
                    c.write_unaligned(sum);
                }
            }
        }
    }
}
