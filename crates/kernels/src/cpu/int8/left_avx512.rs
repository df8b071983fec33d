//! Rows of activations rounded to eight bits, with AVX-512.

use std::arch::x86_64::*;

use super::BLOCK;
use super::left::{AT_ONCE, Note, Sizes};
use super::matrix::LARGEST;
use super::rounding::SMALLEST;

/// # Safety
/// The processor has AVX-512; there are codes and notes for all values, and as many in every row.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn round_rows(
    values: &[f32],
    codes: &mut [i8],
    notes: &mut [Note],
    sizes: &mut [Sizes],
) {
    let blocks = notes.len() / sizes.len().max(1);
    let mut bits = vec![0; notes.len().next_multiple_of(AT_ONCE)];
    // Pieces may reach from one row into the next, so that nearly all are whole.
    let pieces = codes.chunks_mut(AT_ONCE * BLOCK);
    let pieces = pieces.zip(notes.chunks_mut(AT_ONCE));
    for (piece, ((codes, notes), bits)) in pieces.zip(bits.chunks_mut(AT_ONCE)).enumerate() {
        let values = values.get(piece * AT_ONCE * BLOCK..).unwrap_or_default();
        // SAFETY: the caller's promise; there is room for the bits of a whole piece.
        unsafe {
            let of_blocks = if values.len() >= AT_ONCE * BLOCK && notes.len() == AT_ONCE {
                round_piece::<true>(values, codes, notes)
            } else {
                round_piece::<false>(values, codes, notes)
            };
            _mm512_storeu_si512(bits.as_mut_ptr().cast(), of_blocks);
        }
    }
    for (bits, sizes) in bits.chunks_exact(blocks.max(1)).zip(sizes) {
        *sizes = sizes_of(bits);
    }
}

/// The sizes of a row, from the bits of the largest magnitude of each block.
#[target_feature(enable = "avx512f")]
fn sizes_of(bits: &[u32]) -> Sizes {
    let mut sizes = Sizes::default();
    let mut sum = _mm512_setzero_si512();
    let mut largest = _mm512_setzero_si512();
    for bits in bits.chunks(AT_ONCE) {
        let mask = ((1u32 << bits.len()) - 1) as u16;
        // SAFETY: the mask keeps to the bits.
        let of_blocks = unsafe { _mm512_maskz_loadu_epi32(mask, bits.as_ptr().cast()) };
        largest = _mm512_max_epu32(largest, of_blocks);
        let smallest = _mm512_set1_epi32(SMALLEST.to_bits().cast_signed());
        let counts = _mm512_cmpgt_epu32_mask(of_blocks, smallest);
        sizes.count += u64::from(counts.count_ones());
        let counted = _mm512_maskz_mov_epi32(counts, of_blocks);
        let low = _mm512_and_si512(counted, _mm512_set1_epi64(u32::MAX.into()));
        sum = _mm512_add_epi64(sum, _mm512_add_epi64(low, _mm512_srli_epi64::<32>(counted)));
    }
    sizes.sum = _mm512_reduce_add_epi64(sum).cast_unsigned();
    sizes.largest = _mm512_reduce_max_epu32(largest);
    sizes
}

/// Rounds at most [`AT_ONCE`] blocks, whose number is even, and returns the bits of their largest
/// magnitudes. Values beyond the last are zeros. With `WHOLE`, there are as many blocks, and all
/// values.
///
/// # Safety
/// As for [`round_rows`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn round_piece<const WHOLE: bool>(
    values: &[f32],
    codes: &mut [i8],
    notes: &mut [Note],
) -> __m512i {
    let count = if WHOLE { AT_ONCE } else { notes.len() };
    let load = |block: usize| {
        let at = block * BLOCK;
        let from = values.as_ptr().wrapping_add(at);
        // SAFETY: the values are there, or the masks keep to them.
        unsafe {
            if WHOLE {
                return [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))];
            }
            let mask =
                |from: usize| ((1u32 << values.len().saturating_sub(from).min(16)) - 1) as u16;
            [
                _mm512_maskz_loadu_ps(mask(at), from),
                _mm512_maskz_loadu_ps(mask(at + 16), from.wrapping_add(16)),
            ]
        }
    };
    let mut each = [_mm512_setzero_si512(); AT_ONCE];
    for (block, each) in each.iter_mut().enumerate().take(count) {
        let [a, b] = load(block).map(|x| _mm512_castps_si512(_mm512_abs_ps(x)));
        *each = _mm512_max_epu32(a, b);
    }
    let bits = fold::<false>(&each);
    let largest = _mm512_max_ps(_mm512_set1_ps(SMALLEST), _mm512_castsi512_ps(bits));
    let all = _mm512_set1_ps(LARGEST);
    let mut inverses = [0.0; AT_ONCE];
    // SAFETY: there are as many.
    unsafe { _mm512_storeu_ps(inverses.as_mut_ptr(), _mm512_div_ps(all, largest)) };
    let in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    // A square has two blocks, so that their number is even.
    for block in (0..count).step_by(2) {
        let mut words = [_mm512_setzero_si512(); 2];
        for (i, words) in words.iter_mut().enumerate() {
            let inverse = _mm512_set1_ps(inverses[block + i]);
            let [a, b] = load(block + i).map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
            each[block + i] = _mm512_add_epi32(a, b);
            *words = _mm512_packs_epi32(a, b);
        }
        let bytes = _mm512_packs_epi16(words[0], words[1]);
        let to = codes[block * BLOCK..][..2 * BLOCK].as_mut_ptr();
        // SAFETY: there are as many codes.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi32(in_order, bytes)) };
    }
    let scales = _mm512_div_ps(largest, all);
    let infinite = _mm512_set1_ps(f32::INFINITY);
    let infinite = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(scales, infinite);
    let scales = _mm512_mask_mov_ps(scales, infinite, _mm512_set1_ps(f32::NAN));
    let sums = _mm512_slli_epi32::<7>(fold::<true>(&each));
    let starts = _mm512_sub_epi32(_mm512_setzero_si512(), sums);
    let scales = _mm512_castps_si512(scales);
    // SAFETY: the masks keep to the notes.
    unsafe {
        for half in 0..2 {
            let first = _mm512_set1_epi32(8 * half);
            let order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let order = _mm512_add_epi32(order, first);
            let some = _mm512_permutex2var_epi32(scales, order, starts);
            let first = 8 * half as usize;
            let count = notes.len().saturating_sub(first).min(8);
            let to = notes.as_mut_ptr().wrapping_add(first);
            _mm512_mask_storeu_epi32(to.cast(), ((1u32 << (2 * count)) - 1) as u16, some);
        }
    }
    bits
}

/// The sum of each of 16 vectors, or its largest number.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold<const ADDS: bool>(vectors: &[__m512i; 16]) -> __m512i {
    let both = |a, b| {
        if ADDS {
            _mm512_add_epi32(a, b)
        } else {
            _mm512_max_epu32(a, b)
        }
    };
    let mut fours = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| vectors[4 * i + j]);
        let ab = both(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = both(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        fours[i] = both(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    }
    // Each has four quarters of what is to be folded, in its 128-bit lanes.
    let [a, b, c, d] = fours;
    let ab = both(
        _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b),
        _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b),
    );
    let cd = both(
        _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d),
        _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d),
    );
    both(
        _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd),
    )
}
