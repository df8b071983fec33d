//! The loops of products of a few rows, with AVX-512.
//!
//! They read W from its first byte to its last: reading several rows side by side would cost a
//! third of the memory's speed.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::Matrix;
use super::gemv::Weight;

/// How many bytes ahead memory is prefetched.
const AHEAD: usize = 2048;

/// How many sums are finished together.
const TOGETHER: usize = 16;

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

fn mask(count: usize) -> u16 {
    if count < 16 {
        (1 << count) - 1
    } else {
        u16::MAX
    }
}

/// Loads 16 elements, and prefetches those that follow later.
///
/// # Safety
/// As for [`Weight::load`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn stream<T: Weight>(from: *const T, mask: u16) -> __m512 {
    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(AHEAD).cast());
    // SAFETY: the caller's promise.
    unsafe { T::load(from, mask) }
}

/// `sums[i] += a[i] · w[from..]`, with as many rows of `w` as `a` has columns; sums `[M][n]`.
///
/// # Safety
/// The processor must have what [`is_available`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn add_rows<T: Weight, const M: usize>(
    a: [&[f32]; M],
    w: Matrix<'_, T>,
    from: usize,
    sums: &mut [f32],
) {
    let (n, count) = (w.cols(), a[0].len());
    assert!(sums.len() == M * n && a.iter().all(|a| a.len() == count));
    for p in 0..count {
        let row = w.row(from + p).as_ptr();
        let factors: [__m512; M] = std::array::from_fn(|i| _mm512_set1_ps(a[i][p]));
        for j in (0..n).step_by(16) {
            let mask = mask(n - j);
            // SAFETY: the mask keeps to the row, and to row `i` of the `M * n` sums.
            unsafe {
                let weights = stream(row.add(j), mask);
                for i in 0..M {
                    let at = sums.as_mut_ptr().add(i * n + j);
                    let sum = _mm512_fmadd_ps(factors[i], weights, _mm512_maskz_loadu_ps(mask, at));
                    _mm512_mask_storeu_ps(at, mask, sum);
                }
            }
        }
    }
}

/// `sums[j][i] = a[i] · w[from + j]` with `M` sums for each row of `w`.
///
/// # Safety
/// The processor must have what [`is_available`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn inner_products<T: Weight, const M: usize>(
    a: &[&[f32]; M],
    w: Matrix<'_, T>,
    from: usize,
    sums: &mut [f32],
) {
    let k = w.cols();
    assert!(a.iter().all(|a| a.len() == k));
    let mut chunks = sums.chunks_exact_mut(TOGETHER * M);
    let mut row = from;
    for sums in &mut chunks {
        let mut lanes = [[_mm512_setzero_ps(); TOGETHER]; M];
        for j in 0..TOGETHER {
            let of_row = lanes_of(a, w.row(row + j));
            for i in 0..M {
                lanes[i][j] = of_row[i];
            }
        }
        for i in 0..M {
            let totals = totals(&lanes[i]);
            for j in 0..TOGETHER {
                sums[j * M + i] = totals[j];
            }
        }
        row += TOGETHER;
    }
    for sums in chunks.into_remainder().chunks_exact_mut(M) {
        let lanes = lanes_of(a, w.row(row));
        for i in 0..M {
            sums[i] = _mm512_reduce_add_ps(lanes[i]);
        }
        row += 1;
    }
}

/// The products of `M` rows of `a` with a row of `w`, as sums of every 16th.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lanes_of<T: Weight, const M: usize>(a: &[&[f32]; M], w: &[T]) -> [__m512; M] {
    let (k, row) = (w.len(), w.as_ptr());
    let mut lanes = [[_mm512_setzero_ps(); 2]; M];
    for p in (0..k).step_by(32) {
        for half in 0..2 {
            let p = p + 16 * half;
            let mask = mask(k.saturating_sub(p));
            // SAFETY: the mask keeps to the row, and to the rows of `a`, which are as long.
            unsafe {
                let weights = stream(row.wrapping_add(p), mask);
                for i in 0..M {
                    let a = _mm512_maskz_loadu_ps(mask, a[i].as_ptr().wrapping_add(p));
                    lanes[i][half] = _mm512_fmadd_ps(a, weights, lanes[i][half]);
                }
            }
        }
    }
    std::array::from_fn(|i| _mm512_add_ps(lanes[i][0], lanes[i][1]))
}

/// The sum of each vector, with the bits of `_mm512_reduce_add_ps`: of the lanes 8 apart, then 4, 2 and
/// 1. At each step, two vectors become one.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals(vectors: &[__m512; TOGETHER]) -> [f32; TOGETHER] {
    // Vectors 0, 4, 8, 12, then 1, 5, 9, 13, and so on, so that the last step leaves them in order.
    let four = |first: usize| {
        let two = |a: __m512, b: __m512| {
            let front = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
            _mm512_add_ps(front, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
        };
        let [a, b] = [0, 8].map(|at| two(vectors[first + at], vectors[first + at + 4]));
        let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        _mm512_add_ps(even, _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b))
    };
    let eight = |first: usize| {
        let (a, b) = (four(first), four(first + 1));
        let front = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
        _mm512_add_ps(front, _mm512_shuffle_ps::<0b11_10_11_10>(a, b))
    };
    let (a, b) = (eight(0), eight(2));
    let even = _mm512_shuffle_ps::<0b10_00_10_00>(a, b);
    let all = _mm512_add_ps(even, _mm512_shuffle_ps::<0b11_01_11_01>(a, b));
    let mut totals = [0.0; TOGETHER];
    // SAFETY: the array has as many values as the vector.
    unsafe { _mm512_storeu_ps(totals.as_mut_ptr(), all) };
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_single_vectors() {
        if !is_available() {
            return;
        }
        let number = |at: usize| (at * 7919 % 1009) as f32 / 7.0 - 70.0;
        let values: [f32; 16 * TOGETHER] = std::array::from_fn(number);
        // SAFETY: the feature was checked; a vector is 16 of the values.
        let (found, wanted) = unsafe {
            let vector = |at: usize| _mm512_loadu_ps(values.as_ptr().add(16 * at));
            let vectors = std::array::from_fn(vector);
            (
                totals(&vectors),
                vectors.map(|vector| _mm512_reduce_add_ps(vector)),
            )
        };
        assert_eq!(found, wanted);
    }
}
