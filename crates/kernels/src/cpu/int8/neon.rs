//! The loops with NEON's `sdot`.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::body::{Body, Part, Tile};
use super::matrix::{BLOCK_BYTES, PANEL};
use super::portable;
use super::{BLOCK, SQUARE};

/// Vectors of 4 columns that are summed along k together.
const VECTORS: usize = 4;

/// 4 rows of 4 vectors in integers, 4 vectors of A and up to 4 of B fill 24 of the 32 registers;
/// the sums in f32 wait in the first-level cache.
pub(super) static BODY: Body = Body {
    name: "NEON sdot",
    rows: 4,
    wide_rows: 0,
    tile: run_tile,
    wide_tile: run_tile,
    round_rows: portable::BODY.round_rows,
    widen: portable::BODY.widen,
    round_again: portable::BODY.round_again,
    transpose: portable::BODY.transpose,
};

pub(super) fn is_available() -> bool {
    is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod")
}

/// # Safety
/// As [`Body::tile`] says.
unsafe fn run_tile(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.rows {
            1 => rows::<1>(tile),
            2 => rows::<2>(tile),
            3 => rows::<3>(tile),
            _ => rows::<4>(tile),
        }
    }
}

/// `sum + b · a`, of 4 signed bytes in each lane, with the same 4 bytes of `a` for all lanes.
macro_rules! dot {
    ($sum:expr, $b:expr, $a:expr, $lane:literal) => {
        std::arch::asm!(
            concat!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[", $lane, "]"),
            inout(vreg) $sum,
            in(vreg) $b,
            in(vreg) $a,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

impl Part {
    /// Writes the sums of 4 columns, added to the base if there is one.
    ///
    /// # Safety
    /// The part must be valid and have such a row.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn finish_vector128(&self, row: usize, first: usize, sums: float32x4_t) {
        let columns = self.columns.saturating_sub(first).min(4);
        // SAFETY: the caller's promise; no more columns than there are.
        unsafe {
            let (c, base) = self.at(row, first);
            if columns == 4 {
                let mut sums = sums;
                if !base.is_null() {
                    sums = vaddq_f32(vld1q_f32(base), sums);
                }
                return vst1q_f32(c, sums);
            }
            let mut each = [0.0; 4];
            vst1q_f32(each.as_mut_ptr(), sums);
            for (column, mut sum) in each.into_iter().take(columns).enumerate() {
                if !base.is_null() {
                    sum += *base.add(column);
                }
                *c.add(column) = sum;
            }
        }
    }
}

/// # Safety
/// As [`Body::tile`] says, for `ROWS` rows.
#[target_feature(enable = "neon,dotprod")]
unsafe fn rows<const ROWS: usize>(tile: &Tile) {
    let (right, output) = (&tile.right, &tile.output);
    let offset = vdupq_n_u8(0x80);
    // SAFETY: everything that the tile points to is valid.
    unsafe {
        for first in (0..PANEL).step_by(4 * VECTORS) {
            let mut sums = [[vdupq_n_f32(0.0); VECTORS]; ROWS];
            let (mut codes, mut notes) = (tile.codes, tile.notes);
            let (mut bytes, mut scales) = (right.bytes.add(4 * first), right.scales.add(first));
            for _ in 0..right.blocks {
                // Without their offset the bytes are signed, so nothing is subtracted from the
                // sums.
                let mut whole = [[vdupq_n_s32(0); VECTORS]; ROWS];
                for half in 0..2 {
                    let mut left = [vdupq_n_s8(0); ROWS];
                    for i in 0..ROWS {
                        left[i] = vld1q_s8(codes.add(i * tile.code_stride + BLOCK / 2 * half));
                    }
                    macro_rules! group {
                        ($lane:literal) => {
                            for v in 0..VECTORS {
                                let at = bytes.add((4 * half + $lane) * 4 * PANEL + 16 * v);
                                let b = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at), offset));
                                for i in 0..ROWS {
                                    dot!(whole[i][v], b, left[i], $lane);
                                }
                            }
                        };
                    }
                    group!(0);
                    group!(1);
                    group!(2);
                    group!(3);
                }
                for i in 0..ROWS {
                    let of_row = vdupq_n_f32((*notes.add(i * tile.note_stride)).scale);
                    for v in 0..VECTORS {
                        let of_columns = vld1q_f32(scales.add(4 * v));
                        let more = vmulq_f32(vcvtq_f32_s32(whole[i][v]), of_columns);
                        sums[i][v] = vfmaq_f32(sums[i][v], more, of_row);
                    }
                }
                (codes, notes) = (codes.add(BLOCK), notes.add(1));
                bytes = bytes.wrapping_add(BLOCK_BYTES);
                scales = scales.wrapping_add(SQUARE);
            }
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    output.finish_vector128(i, first + 4 * v, sums[i][v]);
                }
            }
        }
    }
}
