//! The loops with AVX-VNNI, in vectors of 256 bits.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::body::{Body, Part, Tile};
use super::left::round_rows;
use super::matrix::{BLOCK_BYTES, PANEL, PANEL_BYTES};
use super::rounding::{round_again, widened};
use super::{BLOCK, SQUARE};

/// Vectors of 8 columns that are summed along k together.
const VECTORS: usize = 2;

/// 6 rows of 2 vectors in integers, 2 vectors of B and a broadcast fill 15 of the 16 registers; the
/// sums in f32 wait in the first-level cache.
pub(super) static BODY: Body = Body {
    name: "AVX-VNNI",
    rows: 6,
    wide_rows: 0,
    tile: run_tile,
    wide_tile: run_tile,
    round_rows,
    widen: widened,
    round_again: |from, scales, to, to_scales| round_again(from, scales, to, to_scales),
    transpose,
};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("avxvnni")
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
            4 => rows::<4>(tile),
            5 => rows::<5>(tile),
            _ => rows::<6>(tile),
        }
    }
}

impl Part {
    /// A mask of those of 8 columns that exist.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn mask256(&self, vector: usize) -> __m256i {
        let columns = self.columns.saturating_sub(8 * vector).min(8) as i32;
        let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(columns), places)
    }

    /// Writes the sums of 8 columns, added to the base if there is one.
    ///
    /// # Safety
    /// The processor must have AVX2; the part must be valid and have such a row.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn finish_vector256(&self, row: usize, vector: usize, mut sums: __m256) {
        let mask = self.mask256(vector);
        // SAFETY: the mask keeps to the columns.
        unsafe {
            let (c, base) = self.at(row, 8 * vector);
            if !base.is_null() {
                sums = _mm256_add_ps(_mm256_maskload_ps(base, mask), sums);
            }
            _mm256_maskstore_ps(c, mask, sums);
        }
    }
}

/// # Safety
/// As [`Body::tile`] says, for `ROWS` rows.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn rows<const ROWS: usize>(tile: &Tile) {
    let (right, output) = (&tile.right, &tile.output);
    // SAFETY: everything that the tile points to is valid.
    unsafe {
        for first in (0..PANEL / 8).step_by(VECTORS) {
            let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
            let (mut codes, mut notes) = (tile.codes, tile.notes);
            let mut bytes = right.bytes.add(32 * first);
            let mut scales = right.scales.add(8 * first);
            for _ in 0..right.blocks {
                let mut whole = [[_mm256_setzero_si256(); VECTORS]; ROWS];
                for i in 0..ROWS {
                    let start = _mm256_set1_epi32((*notes.add(i * tile.note_stride)).start);
                    for v in 0..VECTORS {
                        whole[i][v] = start;
                    }
                }
                for group in 0..BLOCK / 4 {
                    let mut columns = [_mm256_setzero_si256(); VECTORS];
                    for v in 0..VECTORS {
                        let at = bytes.add(4 * PANEL * group + 32 * v);
                        columns[v] = _mm256_loadu_si256(at.cast());
                    }
                    for i in 0..ROWS {
                        let four = codes.add(i * tile.code_stride + 4 * group);
                        let four = _mm256_set1_epi32(four.cast::<i32>().read_unaligned());
                        for v in 0..VECTORS {
                            whole[i][v] = _mm256_dpbusd_avx_epi32(whole[i][v], columns[v], four);
                        }
                    }
                }
                let mut of_columns = [_mm256_setzero_ps(); VECTORS];
                for v in 0..VECTORS {
                    of_columns[v] = _mm256_loadu_ps(scales.add(8 * v));
                }
                for i in 0..ROWS {
                    let of_row = _mm256_set1_ps((*notes.add(i * tile.note_stride)).scale);
                    for v in 0..VECTORS {
                        let more = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[i][v]), of_columns[v]);
                        sums[i][v] = _mm256_fmadd_ps(more, of_row, sums[i][v]);
                    }
                }
                (codes, notes) = (codes.add(BLOCK), notes.add(1));
                (bytes, scales) = (bytes.wrapping_add(BLOCK_BYTES), scales.wrapping_add(SQUARE));
            }
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    output.finish_vector256(i, first + v, sums[i][v]);
                }
            }
        }
    }
}

/// Works in parts of 8 × 8 values: transposes each 4 × 4 bytes, then their places in the part.
///
/// # Safety
/// As [`Body::transpose`] says.
#[target_feature(enable = "avx2")]
unsafe fn transpose(from: *const u8, to: *mut u8) {
    let inside = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let inside = _mm256_broadcastsi128_si256(inside);
    // Where 8 columns of 4 rows lie.
    let at = |group: usize, vector: usize| {
        let inside = group % (BLOCK / 4) * (4 * PANEL) + vector % 4 * 32;
        group / (BLOCK / 4) * BLOCK_BYTES + vector / 4 * PANEL_BYTES + inside
    };
    for across in 0..8 {
        for down in 0..8 {
            // SAFETY: all places are inside a square.
            unsafe {
                let mut r = [_mm256_setzero_si256(); 2];
                for i in 0..2 {
                    let from = from.add(at(2 * down + i, across));
                    r[i] = _mm256_shuffle_epi8(_mm256_loadu_si256(from.cast()), inside);
                }
                let out = [
                    _mm256_permute2x128_si256::<0x20>(r[0], r[1]),
                    _mm256_permute2x128_si256::<0x31>(r[0], r[1]),
                ];
                for i in 0..2 {
                    let to = to.add(at(2 * across + i, down));
                    _mm256_storeu_si256(to.cast(), out[i]);
                }
            }
        }
    }
}
