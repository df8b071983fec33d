//! The loops with AVX512-VNNI.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::SQUARE;
use super::body::{Body, ExactTile, Part, Tile};
use super::matrix::{OFFSET, PANEL_BYTES};

/// 6 rows of 2 vectors twice, in whole numbers and in f32, 2 vectors of B and a broadcast fill 27 of the
/// 32 registers.
pub(super) static BODY: Body = Body {
    name: "AVX512-VNNI",
    rows: 6,
    wide_rows: 3,
    tile: run_tile,
    wide_tile: run_wide_tile,
    exact: run_exact,
    transpose,
};

/// Squares ahead of the reading that memory is asked for.
const AHEAD: usize = 1;

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// # Safety
/// As [`Body::tile`] says.
unsafe fn run_tile(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.rows {
            1 => rows::<1, 2>(tile),
            2 => rows::<2, 2>(tile),
            3 => rows::<3, 2>(tile),
            4 => rows::<4, 2>(tile),
            5 => rows::<5, 2>(tile),
            _ => rows::<6, 2>(tile),
        }
    }
}

/// # Safety
/// As [`Body::wide_tile`] says.
unsafe fn run_wide_tile(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.rows {
            1 => rows::<1, 4>(tile),
            2 => rows::<2, 4>(tile),
            _ => rows::<3, 4>(tile),
        }
    }
}

impl Part {
    /// Which of 16 columns there are.
    fn mask(&self, vector: usize) -> __mmask16 {
        let columns = self.columns.saturating_sub(16 * vector).min(16);
        ((1u32 << columns) - 1) as __mmask16
    }

    /// Adds the sums of 16 columns, times the columns' factors, to what they are added to.
    ///
    /// # Safety
    /// The processor has AVX-512; the part is there, and has such a row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn finish_vector(&self, row: usize, vector: usize, sums: __m512) {
        let mask = self.mask(vector);
        // SAFETY: the mask keeps to the columns; there are factors also beyond them.
        unsafe {
            let factors = _mm512_loadu_ps(self.factors.wrapping_add(16 * vector));
            let mut sums = _mm512_mul_ps(sums, factors);
            if !self.base.is_null() {
                let base = self.base.wrapping_add(row * self.base_stride + 16 * vector);
                sums = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, base), sums);
            }
            let c = self.c.wrapping_add(row * self.c_stride + 16 * vector);
            _mm512_mask_storeu_ps(c, mask, sums);
        }
    }
}

/// Where a vector of a panel's square lies.
fn vector_at(group: usize, vector: usize) -> usize {
    vector / 2 * PANEL_BYTES + group * 128 + vector % 2 * 64
}

/// # Safety
/// As [`Body::tile`] says, for so many rows and vectors of 16 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rows<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    let (right, output) = (&tile.right, &tile.output);
    // SAFETY: what the tile points to is there.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        let (mut codes, mut notes) = (tile.codes, tile.notes);
        let (mut bytes, mut scale) = (right.bytes, right.scales);
        for _ in 0..right.blocks {
            if tile.is_first {
                let ahead = bytes.wrapping_add(AHEAD * right.stride);
                for group in 0..SQUARE / 4 {
                    for v in 0..VECTORS {
                        let ahead = ahead.wrapping_add(vector_at(group, v));
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                }
            }
            let mut whole = [[_mm512_setzero_si512(); VECTORS]; ROWS];
            for i in 0..ROWS {
                let start = _mm512_set1_epi32((*notes.add(i * tile.note_stride)).start);
                for v in 0..VECTORS {
                    whole[i][v] = start;
                }
            }
            for group in 0..SQUARE / 4 {
                let mut columns = [_mm512_setzero_si512(); VECTORS];
                for v in 0..VECTORS {
                    columns[v] = _mm512_loadu_si512(bytes.add(vector_at(group, v)).cast());
                }
                for i in 0..ROWS {
                    let four = codes.add(i * tile.code_stride + 4 * group);
                    let four = _mm512_set1_epi32(four.cast::<i32>().read_unaligned());
                    for v in 0..VECTORS {
                        whole[i][v] = _mm512_dpbusd_epi32(whole[i][v], columns[v], four);
                    }
                }
            }
            let of_square = _mm512_set1_ps(*scale);
            for i in 0..ROWS {
                let of_block = _mm512_set1_ps((*notes.add(i * tile.note_stride)).scale);
                let factor = _mm512_mul_ps(of_block, of_square);
                for v in 0..VECTORS {
                    let more = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[i][v]), factor);
                    sums[i][v] = _mm512_add_ps(sums[i][v], more);
                }
            }
            (codes, notes) = (codes.add(SQUARE), notes.add(1));
            bytes = bytes.wrapping_add(right.stride);
            scale = scale.wrapping_add(right.scale_stride);
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                output.finish_vector(i, v, sums[i][v]);
            }
        }
    }
}

/// # Safety
/// As [`Body::exact`] says.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn run_exact(tile: &ExactTile) {
    let low = _mm512_set1_epi32(0xff);
    let offset = _mm512_set1_ps(OFFSET as f32);
    // SAFETY: what the tile points to is there.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); 2];
        for group in 0..SQUARE / 4 {
            for v in 0..2 {
                let mut words = _mm512_loadu_si512(tile.bytes.add(vector_at(group, v)).cast());
                for place in 0..4 {
                    let weights = _mm512_cvtepi32_ps(_mm512_and_si512(words, low));
                    let weights = _mm512_sub_ps(weights, offset);
                    let value = _mm512_set1_ps(*tile.values.add(4 * group + place));
                    sums[v] = _mm512_add_ps(sums[v], _mm512_mul_ps(value, weights));
                    words = _mm512_srli_epi32::<8>(words);
                }
            }
        }
        let scale = _mm512_set1_ps(*tile.scale);
        for v in 0..2 {
            tile.output
                .finish_vector(0, v, _mm512_mul_ps(sums[v], scale));
        }
    }
}

/// In parts of 16 × 16 values: 4 × 4 bytes inside of their 16, then those 16 among the others.
///
/// # Safety
/// As [`Body::transpose`] says.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn transpose(from: *const u8, to: *mut u8) {
    let inside = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let inside = _mm512_broadcast_i32x4(inside);
    for across in 0..4 {
        for down in 0..4 {
            // SAFETY: all of them are inside of a square.
            unsafe {
                let mut r = [_mm512_setzero_si512(); 4];
                for i in 0..4 {
                    let at = from.add(vector_at(4 * down + i, across));
                    r[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(at.cast()), inside);
                }
                let t = [
                    _mm512_shuffle_i32x4::<0b01_00_01_00>(r[0], r[1]),
                    _mm512_shuffle_i32x4::<0b01_00_01_00>(r[2], r[3]),
                    _mm512_shuffle_i32x4::<0b11_10_11_10>(r[0], r[1]),
                    _mm512_shuffle_i32x4::<0b11_10_11_10>(r[2], r[3]),
                ];
                let out = [
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(t[0], t[1]),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(t[0], t[1]),
                    _mm512_shuffle_i32x4::<0b10_00_10_00>(t[2], t[3]),
                    _mm512_shuffle_i32x4::<0b11_01_11_01>(t[2], t[3]),
                ];
                for i in 0..4 {
                    let at = to.add(vector_at(4 * across + i, down));
                    _mm512_storeu_si512(at.cast(), out[i]);
                }
            }
        }
    }
}
