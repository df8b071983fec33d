//! The loops with AVX512-VNNI.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::body::{Body, Part, Tile};
use super::left_avx512::round_rows;
use super::matrix::{BLOCK_BYTES, LARGEST, PANEL_BYTES, Scales, Square, WideScales};
use super::rounding::SMALLEST;
use super::{BLOCK, SQUARE};

/// 6 rows of 2 vectors, once in integers and once in f32, 2 vectors of B, 2 of its scales and a
/// broadcast fill 29 of the 32 registers.
pub(super) static BODY: Body = Body {
    name: "AVX512-VNNI",
    rows: 6,
    wide_rows: 3,
    tile: run_tile,
    wide_tile: run_wide_tile,
    // SAFETY: the processor has the features that it needs; the caller keeps its promise.
    round_rows: |values, codes, notes, sizes| unsafe { round_rows(values, codes, notes, sizes) },
    // SAFETY: the processor has the features that it needs.
    widen: |scales, factors, to| unsafe { widen(scales, factors, to) },
    // SAFETY: as above.
    round_again: |from, scales, to, to_scales| unsafe { round_again(from, scales, to, to_scales) },
    transpose,
};

/// How many blocks ahead memory is prefetched.
const AHEAD: usize = 2;

/// Groups of four rows in a block.
const GROUPS: usize = BLOCK / 4;

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
    /// A mask of those of 16 columns that exist.
    fn mask(&self, vector: usize) -> __mmask16 {
        let columns = self.columns.saturating_sub(16 * vector).min(16);
        ((1u32 << columns) - 1) as __mmask16
    }

    /// Writes the sums of 16 columns, added to the base if there is one.
    ///
    /// # Safety
    /// The processor must have AVX-512; the part must be valid and have such a row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn finish_vector(&self, row: usize, vector: usize, mut sums: __m512) {
        let mask = self.mask(vector);
        // SAFETY: the mask keeps to the columns.
        unsafe {
            let (c, base) = self.at(row, 16 * vector);
            if !base.is_null() {
                sums = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, base), sums);
            }
            _mm512_mask_storeu_ps(c, mask, sums);
        }
    }
}

/// Where a vector of a square lies, for a group of four rows, counted from the square's first.
fn vector_at(group: usize, vector: usize) -> usize {
    let inside = group % GROUPS * 128 + vector % 2 * 64;
    group / GROUPS * BLOCK_BYTES + vector / 2 * PANEL_BYTES + inside
}

/// # Safety
/// As [`Body::tile`] says, for `ROWS` rows and `VECTORS` vectors of 16 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rows<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    let (right, output) = (&tile.right, &tile.output);
    // SAFETY: everything that the tile points to is valid.
    unsafe {
        // The sums are written at the end, to lines that by then should be in the cache.
        for i in 0..ROWS {
            for v in 0..VECTORS {
                _mm_prefetch::<_MM_HINT_ET0>(output.at(i, 16 * v).0.cast());
            }
        }
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        let (mut codes, mut notes) = (tile.codes, tile.notes);
        let (mut bytes, mut scales) = (right.bytes, right.scales);
        for _ in 0..right.blocks {
            if tile.is_first {
                let ahead = bytes.wrapping_add(AHEAD * BLOCK_BYTES);
                for group in 0..GROUPS {
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
            for group in 0..GROUPS {
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
            let mut of_columns = [_mm512_setzero_ps(); VECTORS];
            for v in 0..VECTORS {
                of_columns[v] = _mm512_loadu_ps(scales.add(16 * v));
            }
            for i in 0..ROWS {
                let of_row = _mm512_set1_ps((*notes.add(i * tile.note_stride)).scale);
                for v in 0..VECTORS {
                    let more = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[i][v]), of_columns[v]);
                    sums[i][v] = _mm512_fmadd_ps(more, of_row, sums[i][v]);
                }
            }
            (codes, notes) = (codes.add(BLOCK), notes.add(1));
            (bytes, scales) = (bytes.wrapping_add(BLOCK_BYTES), scales.wrapping_add(SQUARE));
        }
        for i in 0..ROWS {
            for v in 0..VECTORS {
                output.finish_vector(i, v, sums[i][v]);
            }
        }
    }
}

/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn widen(scales: &Scales, factors: &[f32; SQUARE], to: &mut WideScales) {
    for v in 0..scales.len() / 16 {
        // SAFETY: the places are inside the arrays.
        unsafe {
            let scales = _mm256_loadu_si256(scales.as_ptr().add(16 * v).cast());
            let factors = _mm512_loadu_ps(factors.as_ptr().add(16 * v % SQUARE));
            let wide = _mm512_mul_ps(_mm512_cvtph_ps(scales), factors);
            _mm512_storeu_ps(to.as_mut_ptr().add(16 * v), wide);
        }
    }
}

/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn round_again(
    from: &Square,
    scales: &WideScales,
    to: &mut Square,
    to_scales: &mut WideScales,
) {
    let offset = _mm512_set1_epi8(-128);
    let low = _mm512_set1_epi32(0xff);
    for group in 0..SQUARE / 4 {
        for panel in 0..2 {
            // SAFETY: everything is inside a square and its scales.
            unsafe {
                let mut values = [[_mm512_setzero_ps(); 2]; 4];
                let mut largest = [_mm512_setzero_si512(); 4];
                for v in 0..2 {
                    let at = vector_at(group, 2 * panel + v);
                    let words = _mm512_loadu_si512(from.0.as_ptr().add(at).cast());
                    let words = _mm512_xor_si512(words, offset);
                    let at = group / GROUPS * SQUARE + 32 * panel + 16 * v;
                    let scales = _mm512_loadu_ps(scales.as_ptr().add(at));
                    let codes = [
                        _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(words)),
                        _mm512_srai_epi32::<24>(_mm512_slli_epi32::<16>(words)),
                        _mm512_srai_epi32::<24>(_mm512_slli_epi32::<8>(words)),
                        _mm512_srai_epi32::<24>(words),
                    ];
                    for p in 0..4 {
                        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(codes[p]), scales);
                        let size = _mm512_castps_si512(_mm512_abs_ps(value));
                        largest[p] = _mm512_max_epu32(largest[p], size);
                        values[p][v] = value;
                    }
                }
                let largest = _mm_castsi128_ps(largest_of(largest));
                // NaN stays NaN.
                let largest = _mm_max_ps(_mm_set1_ps(SMALLEST), largest);
                let all = _mm_set1_ps(LARGEST);
                let at = panel * SQUARE + 4 * group;
                _mm_storeu_ps(to_scales.as_mut_ptr().add(at), _mm_div_ps(largest, all));
                let inverse = _mm512_castps128_ps512(_mm_div_ps(all, largest));
                let inverses = [
                    _mm512_permutexvar_ps(_mm512_set1_epi32(0), inverse),
                    _mm512_permutexvar_ps(_mm512_set1_epi32(1), inverse),
                    _mm512_permutexvar_ps(_mm512_set1_epi32(2), inverse),
                    _mm512_permutexvar_ps(_mm512_set1_epi32(3), inverse),
                ];
                for v in 0..2 {
                    let mut codes = [_mm512_setzero_si512(); 4];
                    for p in 0..4 {
                        codes[p] = _mm512_cvtps_epi32(_mm512_mul_ps(values[p][v], inverses[p]));
                        if p < 3 {
                            codes[p] = _mm512_and_si512(codes[p], low);
                        }
                    }
                    let front = _mm512_or_si512(codes[0], _mm512_slli_epi32::<8>(codes[1]));
                    let back = _mm512_or_si512(codes[2], _mm512_slli_epi32::<8>(codes[3]));
                    let words = _mm512_or_si512(front, _mm512_slli_epi32::<16>(back));
                    let at = to.0.as_mut_ptr().add(vector_at(group, 2 * panel + v));
                    _mm512_storeu_si512(at.cast(), _mm512_xor_si512(words, offset));
                }
            }
        }
    }
}

/// The largest number of each of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest_of(vectors: [__m512i; 4]) -> __m128i {
    let [a, b, c, d] = vectors;
    let ab = _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_max_epu32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let all = _mm512_max_epu32(all, _mm512_shuffle_i32x4::<0b01_00_11_10>(all, all));
    let all = _mm512_max_epu32(all, _mm512_shuffle_i32x4::<0b10_11_00_01>(all, all));
    _mm512_castsi512_si128(all)
}

/// Works in parts of 16 × 16 values: transposes each 4 × 4 bytes, then their places in the part.
///
/// # Safety
/// As [`Body::transpose`] says.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn transpose(from: *const u8, to: *mut u8) {
    let inside = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let inside = _mm512_broadcast_i32x4(inside);
    for across in 0..4 {
        for down in 0..4 {
            // SAFETY: all places are inside a square.
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
