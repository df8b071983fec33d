//! What of a product depends on the processor.

use super::left::Note;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{avx512, avxvnni};

/// A part of C: some rows by at most 32 columns.
pub(super) struct Tile {
    /// The rows of A in whole numbers, and what else is known of their blocks; from a row to the next.
    pub codes: *const i8,
    pub code_stride: usize,
    pub notes: *const Note,
    pub note_stride: usize,
    pub rows: usize,
    pub right: Panel,
    /// Whether the panel comes from far away: what follows should be on its way.
    pub is_first: bool,
    pub output: Part,
}

/// A block of a row of A that was not rounded, for at most 32 columns.
pub(super) struct ExactTile {
    /// 64 of them.
    pub values: *const f32,
    /// What they are multiplied with: a panel's part in a square, and its scale.
    pub bytes: *const u8,
    pub scale: *const f32,
    pub output: Part,
}

/// 32 columns of a weight, or 64 for tiles of few rows.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The bytes of its part in the first square along k, and the bytes to the next one.
    pub bytes: *const u8,
    pub stride: usize,
    /// The scale of that square, and how many scales it is to the next one's.
    pub scales: *const f32,
    pub scale_stride: usize,
    /// Squares along k.
    pub blocks: usize,
}

impl Panel {
    /// What is left from a block on.
    pub fn from(&self, block: usize) -> Self {
        Self {
            bytes: self.bytes.wrapping_add(block * self.stride),
            scales: self.scales.wrapping_add(block * self.scale_stride),
            blocks: self.blocks - block,
            ..*self
        }
    }
}

/// Where a tile's sums go.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub c: *mut f32,
    pub c_stride: usize,
    /// What they are added to, or null.
    pub base: *const f32,
    pub base_stride: usize,
    /// Columns of C.
    pub columns: usize,
    /// What their sums are multiplied by; as many as the body computes, also beyond the columns.
    pub factors: *const f32,
}

/// The loops for one kind of processor. All give the same bits.
pub(super) struct Body {
    pub name: &'static str,
    /// Most rows of a tile.
    pub rows: usize,
    /// Most rows of a tile of 64 columns; of none is there such a tile, if this is 0.
    pub wide_rows: usize,
    /// # Safety
    /// The processor has what the body needs; there are as many rows as that, and all that the tile
    /// points to is there.
    pub tile: unsafe fn(&Tile),
    /// The same for 64 columns.
    pub wide_tile: unsafe fn(&Tile),
    /// # Safety
    /// As for a tile.
    pub exact: unsafe fn(&ExactTile),
    /// Transposes the bytes of a square.
    ///
    /// # Safety
    /// The processor has what the body needs; there are so many bytes, and they do not overlap.
    pub transpose: unsafe fn(*const u8, *mut u8),
}

impl Body {
    /// The one for this processor.
    pub fn chosen() -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        if avx512::is_available() {
            return &avx512::BODY;
        }
        #[cfg(target_arch = "x86_64")]
        if avxvnni::is_available() {
            return &avxvnni::BODY;
        }
        &portable::BODY
    }

    /// All that this processor can run.
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
        all
    }
}
