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
    for (j, sums) in sums.chunks_exact_mut(M).enumerate() {
        let row = w.row(from + j).as_ptr();
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
        for i in 0..M {
            sums[i] = _mm512_reduce_add_ps(_mm512_add_ps(lanes[i][0], lanes[i][1]));
        }
    }
}
