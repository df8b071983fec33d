//! The loops for any processor.

use super::SQUARE;
use super::body::{Body, ExactTile, Panel, Part, Tile};
use super::left::Note;
use super::matrix::{OFFSET, PANEL, PANEL_BYTES, place};
use crate::cpu::buffer::vectorised;

pub(super) static BODY: Body = Body {
    name: "portable",
    rows: 4,
    wide_rows: 0,
    tile: |tile| run_tile(tile),
    wide_tile: |_| unreachable!("there is no such tile"),
    exact: |tile| run_exact(tile),
    transpose,
};

impl Panel {
    /// The bytes and the scale of a square's part.
    ///
    /// # Safety
    /// The panel is there, and has such a block.
    #[inline(always)]
    unsafe fn block<'a>(&self, block: usize) -> (&'a [u8; PANEL_BYTES], f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = self.bytes.add(block * self.stride).cast();
            (&*bytes, *self.scales.add(block * self.scale_stride))
        }
    }
}

impl Part {
    /// Adds a row's sums, times the columns' factors, to what they are added to.
    ///
    /// # Safety
    /// The part is there, and has such a row.
    #[inline(always)]
    unsafe fn finish(&self, row: usize, sums: &[f32; PANEL]) {
        for (column, sum) in sums.iter().enumerate().take(self.columns) {
            // SAFETY: the caller's promise.
            unsafe {
                let mut sum = sum * *self.factors.add(column);
                if !self.base.is_null() {
                    sum += *self.base.add(row * self.base_stride + column);
                }
                *self.c.add(row * self.c_stride + column) = sum;
            }
        }
    }
}

vectorised! {
    fn run_tile<'a>(tile: &'a Tile) {
        for row in 0..tile.rows {
            // SAFETY: what the tile points to is there.
            unsafe {
                let codes = tile.codes.add(row * tile.code_stride).cast::<[i8; SQUARE]>();
                let notes = tile.notes.add(row * tile.note_stride);
                let mut sums = [0.0; PANEL];
                for block in 0..tile.right.blocks {
                    let (bytes, scale) = tile.right.block(block);
                    let (codes, note) = (&*codes.add(block), *notes.add(block));
                    add_block(codes, note, bytes, scale, &mut sums);
                }
                tile.output.finish(row, &sums);
            }
        }
    }

    fn run_exact<'a>(tile: &'a ExactTile) {
        // SAFETY: what the tile points to is there.
        unsafe {
            let (values, bytes) = (&*tile.values.cast(), &*tile.bytes.cast());
            let mut sums = [0.0; PANEL];
            add_exact_block(values, bytes, &mut sums);
            tile.output.finish(0, &sums.map(|sum| sum * *tile.scale));
        }
    }
}

#[inline(always)]
fn add_block(
    codes: &[i8; SQUARE],
    note: Note,
    bytes: &[u8; PANEL_BYTES],
    scale: f32,
    sums: &mut [f32; PANEL],
) {
    let mut whole = [note.start; PANEL];
    let (groups, _) = bytes.as_chunks::<{ 4 * PANEL }>();
    for (bytes, codes) in groups.iter().zip(codes.as_chunks::<4>().0) {
        let codes = codes.map(i32::from);
        for (whole, bytes) in whole.iter_mut().zip(bytes.as_chunks::<4>().0) {
            let word = u32::from_le_bytes(*bytes);
            for (place, code) in codes.iter().enumerate() {
                *whole += (word >> (8 * place) & 0xff) as i32 * code;
            }
        }
    }
    let scale = note.scale * scale;
    for (sum, whole) in sums.iter_mut().zip(whole) {
        *sum += whole as f32 * scale;
    }
}

#[inline(always)]
fn add_exact_block(values: &[f32; SQUARE], bytes: &[u8; PANEL_BYTES], sums: &mut [f32; PANEL]) {
    let (groups, _) = bytes.as_chunks::<{ 4 * PANEL }>();
    for (bytes, values) in groups.iter().zip(values.as_chunks::<4>().0) {
        for (place, value) in values.iter().enumerate() {
            for (sum, bytes) in sums.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += value * (i32::from(bytes[place]) - OFFSET) as f32;
            }
        }
    }
}

/// # Safety
/// As [`Body::transpose`] says.
unsafe fn transpose(from: *const u8, to: *mut u8) {
    for row in 0..SQUARE {
        for col in 0..SQUARE {
            // SAFETY: both places are inside of a square.
            unsafe { *to.add(place(col, row)) = *from.add(place(row, col)) };
        }
    }
}
