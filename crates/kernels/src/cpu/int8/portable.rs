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
    /// What a row's sums begin with.
    ///
    /// # Safety
    /// The part is there, and has such a row.
    #[inline(always)]
    unsafe fn begin(&self, row: usize) -> [f32; PANEL] {
        let mut sums = [0.0; PANEL];
        if !self.base.is_null() {
            for (column, sum) in sums.iter_mut().enumerate().take(self.columns) {
                // SAFETY: the caller's promise.
                *sum = unsafe { *self.base.add(row * self.base_stride + column) };
            }
        }
        sums
    }

    /// What the sums are multiplied by.
    ///
    /// # Safety
    /// The part is there.
    #[inline(always)]
    unsafe fn factors<'a>(&self) -> &'a [f32; PANEL] {
        // SAFETY: the caller's promise.
        unsafe { &*self.factors.cast() }
    }

    /// # Safety
    /// As for [`begin`](Self::begin).
    #[inline(always)]
    unsafe fn finish(&self, row: usize, sums: &[f32; PANEL]) {
        for (column, sum) in sums.iter().enumerate().take(self.columns) {
            // SAFETY: the caller's promise.
            unsafe { *self.c.add(row * self.c_stride + column) = *sum };
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
                let mut sums = tile.output.begin(row);
                let factors = tile.output.factors();
                for block in 0..tile.right.blocks {
                    let (bytes, scale) = tile.right.block(block);
                    let (codes, note) = (&*codes.add(block), *notes.add(block));
                    add_block(codes, note, bytes, (scale, factors), &mut sums);
                }
                tile.output.finish(row, &sums);
            }
        }
    }

    fn run_exact<'a>(tile: &'a ExactTile) {
        // SAFETY: what the tile points to is there.
        unsafe {
            let mut sums = tile.output.begin(0);
            let (values, bytes) = (&*tile.values.cast(), &*tile.bytes.cast());
            let scale = (*tile.scale, tile.output.factors());
            add_exact_block(values, bytes, scale, &mut sums);
            tile.output.finish(0, &sums);
        }
    }
}

#[inline(always)]
fn add_block(
    codes: &[i8; SQUARE],
    note: Note,
    bytes: &[u8; PANEL_BYTES],
    (scale, factors): (f32, &[f32; PANEL]),
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
    for ((sum, whole), factor) in sums.iter_mut().zip(whole).zip(factors) {
        *sum += whole as f32 * (note.scale * (scale * factor));
    }
}

#[inline(always)]
fn add_exact_block(
    values: &[f32; SQUARE],
    bytes: &[u8; PANEL_BYTES],
    (scale, factors): (f32, &[f32; PANEL]),
    sums: &mut [f32; PANEL],
) {
    let mut block = [0.0; PANEL];
    let (groups, _) = bytes.as_chunks::<{ 4 * PANEL }>();
    for (bytes, values) in groups.iter().zip(values.as_chunks::<4>().0) {
        for (place, value) in values.iter().enumerate() {
            for (sum, bytes) in block.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += value * (i32::from(bytes[place]) - OFFSET) as f32;
            }
        }
    }
    for ((sum, block), factor) in sums.iter_mut().zip(block).zip(factors) {
        *sum += block * (scale * factor);
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
