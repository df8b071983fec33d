//! Products of a few rows with a weight in blocks, whose columns are lines of blocks: each block is
//! unpacked once in registers, with AVX-512, and reading the weight should be all the work.
//!
//! A column's sums are its own, in one order, so that neither the number of threads nor that of rows
//! changes a result.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::ops::Range;

use rayon::prelude::*;

use super::packed::Output;
use super::{Matrix, MatrixMut, Onto};
use crate::cpu::blocks::{BlockMatrix, avx512};

/// Bytes of the weight that a task reads.
const TASK: usize = 1 << 15;

/// `c = onto + a · b` for 1 to 8 rows, which are contiguous.
///
/// # Safety
/// The processor has what [`avx512::is_available`] asks for; the shapes fit, none is zero, and the
/// columns of `b` are lines.
pub(super) unsafe fn product(
    a: Matrix<'_, f32>,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let output = Output::new(onto, c);
    let columns = TASK.div_ceil(b.line_bytes());
    (0..b.cols().div_ceil(columns))
        .into_par_iter()
        .for_each(|task| {
            let columns = task * columns..b.cols().min((task + 1) * columns);
            let output = &output;
            // SAFETY: the caller's promise; the columns are this task's.
            unsafe {
                match a.rows() {
                    1 => some_columns::<1>(a, b, output, columns),
                    2 => some_columns::<2>(a, b, output, columns),
                    3..=4 => some_columns::<4>(a, b, output, columns),
                    _ => some_columns::<8>(a, b, output, columns),
                }
            }
        });
}

/// # Safety
/// As for [`product`], with at most `M` rows.
unsafe fn some_columns<const M: usize>(
    a: Matrix<'_, f32>,
    b: BlockMatrix<'_>,
    output: &Output,
    columns: Range<usize>,
) {
    let (count, k) = (a.rows(), a.cols());
    // Where there are fewer rows, the last one is made again.
    let rows: [*const f32; M] = std::array::from_fn(|i| a.row(i.min(count - 1)).as_ptr());
    let work = Columns {
        rows,
        count,
        k,
        b,
        output,
        columns,
    };
    // SAFETY: the caller's promise.
    unsafe { avx512::dispatch(b.block_type(), work) }
}

struct Columns<'a, const M: usize> {
    rows: [*const f32; M],
    count: usize,
    k: usize,
    b: BlockMatrix<'a>,
    output: &'a Output,
    columns: Range<usize>,
}

impl<const M: usize> avx512::Work for Columns<'_, M> {
    type Output = ();

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn run<L: avx512::Line>(self) {
        let rows = self.rows;
        for j in self.columns {
            let mut sums = [[_mm512_setzero_ps(); 2]; M];
            let line = self.b.bytes_of(j).as_ptr();
            // SAFETY: the line has `k` values, as the rows have.
            unsafe {
                L::visit(line, 0, self.k, |p, masks, values| {
                    for i in 0..M {
                        for half in 0..2 {
                            let at = rows[i].wrapping_add(p + 16 * half);
                            let a = _mm512_maskz_loadu_ps(masks[half], at);
                            sums[i][half] = _mm512_fmadd_ps(a, values[half], sums[i][half]);
                        }
                    }
                });
                for i in 0..self.count {
                    let sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[i][0], sums[i][1]));
                    let (c, base, _) = self.output.at(i, j, false);
                    *c = if base.is_null() { sum } else { *base + sum };
                }
            }
        }
    }
}
