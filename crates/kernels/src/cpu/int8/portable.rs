//! The loops for any processor.

use super::body::{Body, Part, Tile};
use super::left::{Note, round_rows};
use super::matrix::{BLOCK_BYTES, PANEL, PANEL_BYTES, place};
use super::rounding::{round_again, widened};
use super::{BLOCK, SQUARE};
use crate::cpu::buffer::vectorised;

pub(super) static BODY: Body = Body {
    name: "portable",
    rows: 4,
    wide_rows: 0,
    tile: |tile| run_tile(tile),
    wide_tile: |_| unreachable!("there is no such tile"),
    round_rows,
    widen: widened,
    round_again: |from, scales, to, to_scales| round_again(from, scales, to, to_scales),
    transpose,
};

impl Part {
    /// Writes a row's sums, added to the base if there is one.
    ///
    /// # Safety
    /// The part must be valid and have such a row.
    #[inline(always)]
    unsafe fn finish(&self, row: usize, sums: &[f32; PANEL]) {
        // SAFETY: the caller's promise.
        unsafe {
            let (c, base) = self.at(row, 0);
            for (column, sum) in sums.iter().enumerate().take(self.columns) {
                let mut sum = *sum;
                if !base.is_null() {
                    sum += *base.add(column);
                }
                *c.add(column) = sum;
            }
        }
    }
}

vectorised! {
    fn run_tile<'a>(tile: &'a Tile) {
        for row in 0..tile.rows {
            // SAFETY: everything that the tile points to is valid.
            unsafe {
                let codes = tile.codes.add(row * tile.code_stride).cast::<[i8; BLOCK]>();
                let notes = tile.notes.add(row * tile.note_stride);
                let mut sums = [0.0; PANEL];
                for block in 0..tile.right.blocks {
                    let bytes = &*tile.right.bytes.add(block * BLOCK_BYTES).cast();
                    let scales = &*tile.right.scales.add(block * SQUARE).cast();
                    add_block(&*codes.add(block), *notes.add(block), bytes, scales, &mut sums);
                }
                tile.output.finish(row, &sums);
            }
        }
    }
}

#[inline(always)]
fn add_block(
    codes: &[i8; BLOCK],
    note: Note,
    bytes: &[u8; PANEL_BYTES],
    scales: &[f32; PANEL],
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
    for ((sum, whole), scale) in sums.iter_mut().zip(whole).zip(scales) {
        *sum = (whole as f32 * scale).mul_add(note.scale, *sum);
    }
}

/// # Safety
/// As [`Body::transpose`] says.
unsafe fn transpose(from: *const u8, to: *mut u8) {
    for row in 0..SQUARE {
        for col in 0..SQUARE {
            // SAFETY: both places are inside a square.
            unsafe { *to.add(place(col, row)) = *from.add(place(row, col)) };
        }
    }
}
