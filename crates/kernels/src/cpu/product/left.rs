//! The left side of products in bf16, rounded and packed once for all products that read it.

use std::cell::Cell;

use super::Matrix;
use super::micro::{A_STRIDE, TILE_ROWS};
use super::pack;
use super::packed::{Line, depth_step, operand, room};
use crate::cpu::blocks::avx512;
use crate::cpu::buffer::for_pieces;
use crate::cpu::narrow::widen;

/// A matrix `[rows, cols]` rounded to bf16, in the layout that the tiles of [`super::product_bf16`]
/// read: `[blocks along k][rows][A_STRIDE]` words, a word being two neighbours along k.
#[derive(Debug)]
pub struct PackedLeft {
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
}

thread_local! {
    /// The memory of the last one dropped, for the next one: fresh pages cost more than packing.
    static LINES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

impl Drop for PackedLeft {
    fn drop(&mut self) {
        let (mine, kept) = (std::mem::take(&mut self.lines), LINES.take());
        LINES.set(if mine.len() > kept.len() { mine } else { kept });
    }
}

impl PackedLeft {
    /// Whether this processor has AVX512-BF16, and the features that unpack blocks, since a packed
    /// matrix is multiplied with blocks too.
    pub fn is_available() -> bool {
        avx512::is_available() && is_x86_feature_detected!("avx512bf16")
    }

    /// Room for `[rows, cols]`, to be [written](Self::writer). `None` if it would be empty, and on
    /// processors where it is not [available](Self::is_available): their products do not round
    /// their left side.
    pub fn room(rows: usize, cols: usize) -> Option<Self> {
        if !Self::is_available() || rows == 0 || cols == 0 {
            return None;
        }
        let lines = LINES.take();
        let mut packed = Self { lines, rows, cols };
        let blocks = packed.words().div_ceil(packed.step());
        room(&mut packed.lines, blocks * rows * A_STRIDE);
        Some(packed)
    }

    /// Packs a matrix, its rows in parallel; `None` as for [`room`](Self::room).
    pub fn new(a: Matrix<'_, f32>) -> Option<Self> {
        let mut packed = Self::room(a.rows(), a.cols())?;
        let writer = packed.writer();
        for_pieces(a.rows(), ROWS, |rows| {
            // SAFETY: pieces do not overlap.
            unsafe { writer.write(rows.start, a.some_rows(rows)) };
        });
        Some(packed)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A writer, through which each thread writes its own rows.
    pub fn writer(&mut self) -> Writer<'_> {
        Writer {
            data: self.lines.as_mut_ptr().cast(),
            packed: self,
        }
    }

    /// Writes a row's values to `out`.
    ///
    /// # Panics
    /// If there is no such row, or `out` has another length.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        for (block, out) in out.chunks_mut(2 * self.step()).enumerate() {
            let first = self.at(block, row).cast::<u16>();
            // SAFETY: the row has as many values in this block, and they were written.
            widen(unsafe { std::slice::from_raw_parts(first, out.len()) }, out);
        }
    }

    fn words(&self) -> usize {
        self.cols.div_ceil(2)
    }

    fn step(&self) -> usize {
        depth_step(self.words())
    }

    fn offset(&self, block: usize, row: usize) -> usize {
        (block * self.rows + row) * A_STRIDE
    }

    /// The words of a row in a block along k.
    pub(super) fn at(&self, block: usize, row: usize) -> *const u32 {
        let words = self.lines.as_ptr().cast::<u32>();
        words.wrapping_add(self.offset(block, row))
    }
}

/// The number of rows that a thread packs at a time.
const ROWS: usize = 4 * TILE_ROWS;

/// Lets several threads write a [`PackedLeft`].
pub struct Writer<'a> {
    packed: &'a PackedLeft,
    data: *mut u32,
}

// SAFETY: callers of `write` promise that no two threads write the same rows.
unsafe impl Sync for Writer<'_> {}

impl Writer<'_> {
    /// Packs rows from `first` on.
    ///
    /// # Panics
    /// If the packed matrix has fewer rows or another number of columns.
    ///
    /// # Safety
    /// No other thread may write these rows.
    pub unsafe fn write(&self, first: usize, a: Matrix<'_, f32>) {
        let Self { packed, data } = self;
        assert!(first + a.rows() <= packed.rows && a.cols() == packed.cols);
        let (step, from) = (packed.step(), operand(a));
        // In memory order.
        let rows = if a.has_contiguous_rows() {
            1
        } else {
            TILE_ROWS
        };
        for row in (0..a.rows()).step_by(rows) {
            let rows = rows.min(a.rows() - row);
            for (block, start) in (0..packed.words()).step_by(step).enumerate() {
                let columns = (2 * step).min(packed.cols - 2 * start);
                let to = data.wrapping_add(packed.offset(block, first + row));
                // SAFETY: the features were checked when the room was made; the block is inside the
                // matrix, and the room is made for it.
                unsafe { pack::rows_f32_to_bf16(from.block(row, rows, 2 * start, columns), to) };
            }
        }
    }
}
