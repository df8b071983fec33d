//! The part of a product that depends on the processor.

use std::ptr;

use super::SQUARE;
use super::left::{Note, Rest, Sizes};
use super::matrix::{BLOCK_BYTES, PANEL, PANEL_BYTES, Scales, Square, WideScales};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{avx512, avxvnni};

/// What a body computes in one call: a few rows by the columns of one panel, along all its blocks.
pub(super) struct Tile {
    /// The codes of the rows of A.
    pub codes: *const i8,
    /// The number of codes from a row to the next.
    pub code_stride: usize,
    /// The notes of the rows of A.
    pub notes: *const Note,
    /// The number of notes from a row to the next.
    pub note_stride: usize,
    pub rows: usize,
    pub right: Panel,
    /// Whether this tile is the first to read the panel. The panel is then not in the cache yet, so
    /// the tile should prefetch.
    pub is_first: bool,
    pub output: Part,
}

/// 32 columns of a weight, or 64 for tiles of few rows, in blocks of 32 along k.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The bytes of its part in the first block; that in the next is [`BLOCK_BYTES`] away.
    pub bytes: *const u8,
    /// The scales of the columns; those in the next block are [`SQUARE`] away.
    pub scales: *const f32,
    pub blocks: usize,
}

impl Panel {
    /// This block of the panel alone.
    pub fn only(&self, block: usize) -> Self {
        Self {
            bytes: self.bytes.wrapping_add(block * BLOCK_BYTES),
            scales: self.scales.wrapping_add(block * SQUARE),
            blocks: 1,
        }
    }

    /// The part of the panel from `column` on, a multiple of [`PANEL`].
    pub fn at_column(&self, column: usize) -> Self {
        Self {
            bytes: self.bytes.wrapping_add(column / PANEL * PANEL_BYTES),
            scales: self.scales.wrapping_add(column),
            ..*self
        }
    }
}

/// Where a tile writes its sums.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub c: *mut f32,
    pub c_stride: usize,
    /// What the sums are added to, or null.
    pub base: *const f32,
    pub base_stride: usize,
    /// How many columns C has here, at most those of the panel.
    pub columns: usize,
    /// The rests that the tile's rows are, each of which says its row of C, or null.
    pub rests: *const Rest,
}

impl Part {
    /// Where the sums of a row go from a column on, and what they are added to, or null.
    ///
    /// # Safety
    /// There are as many rests as that, if there are any.
    #[inline(always)]
    pub unsafe fn at(&self, row: usize, column: usize) -> (*mut f32, *const f32) {
        let row = if self.rests.is_null() {
            row
        } else {
            // SAFETY: the caller's promise.
            unsafe { (*self.rests.add(row)).row }
        };
        let c = self.c.wrapping_add(row * self.c_stride + column);
        if self.base.is_null() {
            return (c, ptr::null());
        }
        let base = self.base.wrapping_add(row * self.base_stride + column);
        (c, base)
    }
}

/// From values to codes, notes and sizes.
type RoundRows = fn(&[f32], &mut [i8], &mut [Note], &mut [Sizes]);

/// The loops for one kind of processor. All give the same bits.
pub(super) struct Body {
    pub name: &'static str,
    /// The most rows of a tile.
    pub rows: usize,
    /// The most rows of a tile of 64 columns; 0 if the body has no such tile.
    pub wide_rows: usize,
    /// # Safety
    /// The processor must have what the body needs, the tile at most `rows` rows, and everything
    /// that the tile points to must be valid.
    pub tile: unsafe fn(&Tile),
    /// The same for 64 columns.
    pub wide_tile: unsafe fn(&Tile),
    /// Rounds rows of activations and writes the sizes of each. There are codes and notes for all
    /// blocks; if there are several rows, their values fill whole squares.
    pub round_rows: RoundRows,
    /// Multiplies the scales of a square by its columns' factors.
    pub widen: fn(&Scales, &[f32; SQUARE], &mut WideScales),
    /// Rounds a square once more, with a scale for every 32 columns of a row: `[2][64 rows]`.
    pub round_again: fn(&Square, &WideScales, &mut Square, &mut WideScales),
    /// Transposes the bytes of a square.
    ///
    /// # Safety
    /// The processor must have what the body needs; both squares must be valid and not overlap.
    pub transpose: unsafe fn(*const u8, *mut u8),
}

impl Body {
    /// The body for this processor.
    pub fn chosen() -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        if avx512::is_available() {
            return &avx512::BODY;
        }
        #[cfg(target_arch = "x86_64")]
        if avxvnni::is_available() {
            return &avxvnni::BODY;
        }
        #[cfg(target_arch = "aarch64")]
        if neon::is_available() {
            return &neon::BODY;
        }
        &portable::BODY
    }

    /// All bodies that this processor can run.
    #[cfg(test)]
    pub fn all() -> Vec<&'static Self> {
        let mut all = vec![&portable::BODY];
        #[cfg(target_arch = "x86_64")]
        if avx512::is_available() {
            all.push(&avx512::BODY);
        }
        #[cfg(target_arch = "x86_64")]
        if avxvnni::is_available() {
            all.push(&avxvnni::BODY);
        }
        #[cfg(target_arch = "aarch64")]
        if neon::is_available() {
            all.push(&neon::BODY);
        }
        all
    }
}
