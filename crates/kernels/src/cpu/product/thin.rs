//! Products with one narrow side, such as LoRA's: the rows of A are read in place, since copying
//! them first would be a good part of the work.
//!
//! Sums are cut along k as in the packed product, and so have the same bits.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use rayon::prelude::*;

use super::output::Output;
use super::pack::{self, mask16, panel_vectors};
use super::packed::{Line, Operand, depth_step, operand, room};
use super::{Matrix, MatrixMut, Onto};

/// The most columns of the right side that are computed this way.
pub(super) const COLUMNS: usize = 32;

/// The most rows of a tile: 12 rows of 2 vectors, as many pointers as there are registers for.
const ROWS: usize = 12;

/// Rows of a task.
const TASK: usize = 8 * ROWS;

/// One tile's work: `c = base + a · b`.
struct Tile {
    a: *const f32,
    a_stride: usize,
    /// A packed panel, `[depth][vectors · 16]`.
    b: *const f32,
    depth: usize,
    c: *mut f32,
    c_stride: usize,
    /// What the product is added to, or null.
    base: *const f32,
    base_stride: usize,
    /// At most `vectors · 16`.
    columns: usize,
}

/// # Safety
/// The processor must have `avx512f`, and everything that the tile points to must be valid.
#[target_feature(enable = "avx512f")]
unsafe fn run<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    let rows: [*const f32; ROWS] = std::array::from_fn(|i| tile.a.wrapping_add(i * tile.a_stride));
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        for first in (0..tile.depth).step_by(16) {
            // The next strip is prefetched while this one is multiplied.
            for row in rows {
                let next = row.wrapping_add(ROWS * tile.a_stride + first);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
            }
            for p in first..tile.depth.min(first + 16) {
                let mut columns = [_mm512_setzero_ps(); VECTORS];
                for v in 0..VECTORS {
                    columns[v] = _mm512_load_ps(tile.b.add(16 * (VECTORS * p + v)));
                }
                for i in 0..ROWS {
                    let value = _mm512_set1_ps(*rows[i].add(p));
                    for v in 0..VECTORS {
                        sums[i][v] = _mm512_fmadd_ps(value, columns[v], sums[i][v]);
                    }
                }
            }
        }
        for v in 0..VECTORS {
            let mask = mask16(tile.columns.saturating_sub(16 * v));
            for i in 0..ROWS {
                let mut sum = sums[i][v];
                if !tile.base.is_null() {
                    let base = tile.base.wrapping_add(i * tile.base_stride + 16 * v);
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, base), sum);
                }
                let c = tile.c.wrapping_add(i * tile.c_stride + 16 * v);
                _mm512_mask_storeu_ps(c, mask, sum);
            }
        }
    }
}

/// By `[rows - 1][vectors - 1]`.
const TILES: [[unsafe fn(&Tile); 2]; ROWS] = [
    [run::<1, 1>, run::<1, 2>],
    [run::<2, 1>, run::<2, 2>],
    [run::<3, 1>, run::<3, 2>],
    [run::<4, 1>, run::<4, 2>],
    [run::<5, 1>, run::<5, 2>],
    [run::<6, 1>, run::<6, 2>],
    [run::<7, 1>, run::<7, 2>],
    [run::<8, 1>, run::<8, 2>],
    [run::<9, 1>, run::<9, 2>],
    [run::<10, 1>, run::<10, 2>],
    [run::<11, 1>, run::<11, 2>],
    [run::<12, 1>, run::<12, 2>],
];

/// The right side of a product, packed for all tasks.
pub(in crate::cpu) struct Panels {
    /// For each block along k `[panels of 32 columns][depth][32]`, the last panel perhaps of 16.
    lines: Vec<Line>,
    k: usize,
    n: usize,
}

impl Panels {
    /// Whether the processor has the features that this needs.
    pub fn are_available() -> bool {
        is_x86_feature_detected!("avx512f")
    }

    /// Packs `[k, n]`.
    ///
    /// # Panics
    /// If they are not [available](Self::are_available).
    pub fn new(b: Matrix<'_, f32>) -> Self {
        assert!(Self::are_available());
        let (k, n) = (b.rows(), b.cols());
        let mut panels = Self {
            lines: Vec::new(),
            k,
            n,
        };
        let size = k * panels.width();
        let words = room(&mut panels.lines, size);
        for block in panels.blocks() {
            let to = words.wrapping_add(block.start * panels.width());
            let from = operand(b).block(block.start, block.len(), 0, n);
            // SAFETY: the feature was checked, and there is room for whole panels.
            unsafe { pack::panels_f32(from, to) };
        }
        panels
    }

    /// Columns in whole vectors.
    fn width(&self) -> usize {
        self.n.next_multiple_of(16)
    }

    /// The blocks along k.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (k, step) = (self.k, depth_step(self.k.max(1)));
        (0..k)
            .step_by(step)
            .map(move |start| start..k.min(start + step))
    }

    /// Makes some rows and columns of `c = onto + a · b`, or adds to what C holds if the sum
    /// `goes_on`. The first column must be a multiple of 32.
    ///
    /// # Safety
    /// `a` must have these rows and `k` contiguous columns, the columns must exist, and nobody else
    /// may write this part of C.
    pub unsafe fn times(
        &self,
        a: &Operand<f32>,
        rows: Range<usize>,
        columns: Range<usize>,
        output: &Output,
        goes_on: bool,
    ) {
        let words = self.lines.as_ptr().cast::<f32>();
        for strip in strips(rows) {
            for block in self.blocks() {
                let depth = block.len();
                let panels = words.wrapping_add(block.start * self.width());
                for col in columns.clone().step_by(32) {
                    let count = (columns.end - col).min(32);
                    // The width of the panel, not of the columns that are left.
                    let vectors = panel_vectors(self.n - col);
                    let goes_on = goes_on || block.start > 0;
                    let (c, base, base_stride) = output.at(strip.start, col, goes_on);
                    let tile = Tile {
                        a: a.block(strip.start, 1, block.start, 1).data,
                        a_stride: a.row_stride(),
                        b: panels.wrapping_add(col * depth),
                        depth,
                        c,
                        c_stride: output.stride(),
                        base,
                        base_stride,
                        columns: count,
                    };
                    // SAFETY: the caller's promise; the panels were packed.
                    unsafe { TILES[strip.len() - 1][vectors - 1](&tile) };
                }
            }
        }
    }
}

/// Rows in even strips of at most [`ROWS`].
fn strips(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let (first, rows) = (rows.start, rows.len());
    let count = rows.div_ceil(ROWS);
    (0..count).map(move |i| first + i * rows / count..first + (i + 1) * rows / count)
}

/// `c = onto + a · b` with at most [`COLUMNS`] columns; the rows of `a` must be contiguous, the
/// shapes must fit, and no size may be zero.
pub(super) fn product(
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let panels = Panels::new(b);
    let (rows, columns) = (c.rows(), c.cols());
    let (a, output) = (operand(a), Output::new(onto, c));
    (0..rows.div_ceil(TASK))
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let rows = task * TASK..rows.min((task + 1) * TASK);
            // SAFETY: the shapes fit, and no other task has these rows.
            unsafe { panels.times(&a, rows, 0..columns, &output, false) };
        });
}
