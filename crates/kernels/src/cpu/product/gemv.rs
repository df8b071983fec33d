//! Products of a few rows, `m <= ROWS`: each weight is read once, and reading it is all the work.
//!
//! A weight with contiguous rows, `[k, n]`, is cut along k into pieces that are contiguous in
//! memory; each piece is summed into a row of its own, and these rows are summed in order. A weight
//! with contiguous columns needs one inner product for each column. The cuts depend on the shape
//! alone, so neither the number of threads nor their timing changes a result.

use std::cell::Cell;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::gemv_avx512 as avx512;
use super::{Matrix, MatrixMut, Onto, Output};

/// The most rows of A that are computed this way.
pub(crate) const ROWS: usize = 4;

/// Pieces of a weight with contiguous rows: enough for the threads, and few enough for their sums
/// to be small compared with the weight.
const PIECES: usize = 16;

/// Columns that a task makes when columns are contiguous.
const COLUMNS: usize = 32;

/// Values of a weight above which all threads read it, also if it has few columns, as LoRA's have.
pub(in crate::cpu) const WORTH_SHARING: usize = 1 << 13;

/// An element of a weight.
pub(super) trait Weight: Copy + Send + Sync {
    fn wide(self) -> f32;

    /// The 16 elements at `from` that `mask` selects, zero for the others.
    ///
    /// # Safety
    /// The processor must have `avx512f`, `avx512bw` and `avx512vl`; the selected elements must be
    /// valid.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self, mask: u16) -> std::arch::x86_64::__m512;
}

impl Weight for f32 {
    fn wide(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const Self, mask: u16) -> std::arch::x86_64::__m512 {
        // SAFETY: the caller's promise.
        unsafe { std::arch::x86_64::_mm512_maskz_loadu_ps(mask, from) }
    }
}

impl Weight for bf16 {
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const Self, mask: u16) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise.
        let bits = unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
    }
}

/// `c = onto + a · w` with `a` of 1 to [`ROWS`] contiguous rows; neither `k` nor `n` is zero.
pub(super) fn product<T: Weight>(
    a: Matrix<'_, f32>,
    w: Matrix<'_, T>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    match a.rows() {
        1 => rows::<T, 1>(a, w, onto, c),
        2 => rows::<T, 2>(a, w, onto, c),
        3 => rows::<T, 3>(a, w, onto, c),
        4 => rows::<T, 4>(a, w, onto, c),
        m => unreachable!("{m} rows are not few"),
    }
}

thread_local! {
    /// The memory of the sums, kept for the next call.
    static SUMS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

fn rows<T: Weight, const M: usize>(
    a: Matrix<'_, f32>,
    w: Matrix<'_, T>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let a: [&[f32]; M] = std::array::from_fn(|i| a.row(i));
    let (k, n) = (w.rows(), w.cols());
    for i in 0..M {
        match onto {
            Onto::Zero => c.row_mut(i).fill(0.0),
            Onto::Row(row) => c.row_mut(i).copy_from_slice(row),
            Onto::Current => {}
        }
    }
    // Taken, not borrowed: this thread may steal a task that comes here too.
    let mut sums = SUMS.take();
    sums.clear();
    if w.has_contiguous_rows() {
        let height = k.div_ceil(PIECES);
        let pieces = k.div_ceil(height);
        sums.resize(pieces * M * n, 0.0);
        sums.par_chunks_mut(M * n)
            .with_max_len(1)
            .enumerate()
            .for_each(|(piece, sums)| {
                let (from, to) = (piece * height, ((piece + 1) * height).min(k));
                add_rows(a.map(|a| &a[from..to]), w, from, sums);
            });
        for piece in sums.chunks_exact(M * n) {
            for (i, more) in piece.chunks_exact(n).enumerate() {
                c.row_mut(i)
                    .iter_mut()
                    .zip(more)
                    .for_each(|(c, more)| *c += more);
            }
        }
    } else {
        let columns = w.transposed();
        sums.resize(M * n, 0.0);
        let width = if k * n < WORTH_SHARING {
            COLUMNS
        } else {
            n.div_ceil(2 * rayon::current_num_threads()).min(COLUMNS)
        };
        sums.par_chunks_mut(M * width)
            .enumerate()
            .for_each(|(task, sums)| {
                inner_products(&a, columns, task * width, sums);
            });
        for (j, sums) in sums.chunks_exact(M).enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                c.row_mut(i)[j] += sum;
            }
        }
    }
    SUMS.set(sums);
}

/// Adds `a · w` to some columns of C, on this thread, with the bits of [`product`]: `a` has 1 to
/// [`ROWS`] contiguous rows, and the columns of `w` are contiguous.
///
/// # Safety
/// C must have these columns and as many rows as `a`, and nobody else may write them.
pub(in crate::cpu) unsafe fn add_few_columns(
    a: Matrix<'_, f32>,
    w: Matrix<'_, f32>,
    columns: Range<usize>,
    output: &Output,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match a.rows() {
            1 => add_columns::<1>(a, w, columns, output),
            2 => add_columns::<2>(a, w, columns, output),
            3 => add_columns::<3>(a, w, columns, output),
            4 => add_columns::<4>(a, w, columns, output),
            m => unreachable!("{m} rows are not few"),
        }
    }
}

/// # Safety
/// As [`add_few_columns`] says.
unsafe fn add_columns<const M: usize>(
    a: Matrix<'_, f32>,
    w: Matrix<'_, f32>,
    columns: Range<usize>,
    output: &Output,
) {
    let (a, w): ([&[f32]; M], _) = (std::array::from_fn(|i| a.row(i)), w.transposed());
    for first in columns.clone().step_by(COLUMNS) {
        let mut sums = [[0.0; M]; COLUMNS];
        let sums = &mut sums[..COLUMNS.min(columns.end - first)];
        inner_products(&a, w, first, sums.as_flattened_mut());
        for i in 0..M {
            let (c, _, _) = output.at(i, first, true);
            for (j, sums) in sums.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *c.add(j) += sums[i] };
            }
        }
    }
}

/// [`plain::add_rows`], with the instructions that the processor has.
fn add_rows<T: Weight, const M: usize>(
    a: [&[f32]; M],
    w: Matrix<'_, T>,
    from: usize,
    sums: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_available() {
        // SAFETY: the features were checked.
        return unsafe { avx512::add_rows(a, w, from, sums) };
    }
    plain::add_rows(a, w, from, sums);
}

/// [`plain::inner_products`], with the instructions that the processor has.
fn inner_products<T: Weight, const M: usize>(
    a: &[&[f32]; M],
    w: Matrix<'_, T>,
    from: usize,
    sums: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_available() {
        // SAFETY: the features were checked.
        return unsafe { avx512::inner_products(a, w, from, sums) };
    }
    plain::inner_products(a, w, from, sums);
}

/// The loops for any processor.
pub(super) mod plain {
    use super::{Matrix, Weight};

    /// `sums[i] += a[i] · w[from..]`, with as many rows of `w` as `a` has columns; sums `[M][n]`.
    pub fn add_rows<T: Weight, const M: usize>(
        a: [&[f32]; M],
        w: Matrix<'_, T>,
        from: usize,
        sums: &mut [f32],
    ) {
        for p in 0..a[0].len() {
            for (a, sums) in a.iter().zip(sums.chunks_exact_mut(w.cols())) {
                sums.iter_mut()
                    .zip(w.row(from + p))
                    .for_each(|(sum, w)| *sum += a[p] * w.wide());
            }
        }
    }

    /// `sums[j][i] = a[i] · w[from + j]` with `M` sums for each row of `w`.
    pub fn inner_products<T: Weight, const M: usize>(
        a: &[&[f32]; M],
        w: Matrix<'_, T>,
        from: usize,
        sums: &mut [f32],
    ) {
        for (j, sums) in sums.chunks_exact_mut(M).enumerate() {
            for (a, sum) in a.iter().zip(sums) {
                *sum = inner_product(a, w.row(from + j));
            }
        }
    }

    /// In eight sums, which a vector holds.
    fn inner_product<T: Weight>(a: &[f32], w: &[T]) -> f32 {
        let mut lanes = [0.0; 8];
        for (a, w) in a.chunks(8).zip(w.chunks(8)) {
            for ((lane, a), w) in lanes.iter_mut().zip(a).zip(w) {
                *lane += a * w.wide();
            }
        }
        lanes.iter().sum()
    }
}
