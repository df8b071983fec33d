//! Products of a few rows with a weight in blocks, whose columns are lines of blocks: each block is
//! unpacked once in registers, with AVX-512, and reading the weight should be all the work.
//!
//! The rows are first copied, 32 values of each in turn, so that all loads are aligned: unaligned
//! loads would cost as much as the rest of the work.
//!
//! Each column is summed on its own and in one order, so neither the number of threads nor that of
//! rows changes a result.

// A loop over a constant range of indices leaves its arrays in registers; iterators do not.
#![expect(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::output::Output;
use super::packed::{Line, room};
use super::{Matrix, MatrixMut, Onto};
use crate::cpu::blocks::{BlockMatrix, avx512};

/// Bytes of the weight that a task reads.
const TASK: usize = 1 << 15;

/// A weight of at most this many bytes is read before another thread could start.
const ALONE: usize = 1 << 17;

/// Values of the rows that stay in the cache while a group of columns is read. Divided by any
/// number of rows, it is a multiple of a block's values.
const NEAR: usize = 6144;

/// Columns in a group.
const GROUP: usize = 8;

/// `c = onto + a · b` for 1 to 8 rows, which are contiguous.
///
/// # Safety
/// The processor must have what [`avx512::is_available`] asks for; the shapes must fit, no size may
/// be zero, and the columns of `b` must be lines.
pub(super) unsafe fn product(
    a: Matrix<'_, f32>,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let output = Output::new(onto, c);
    // Taken, not borrowed: this thread may steal a task that comes here too.
    let mut lines = COPY.take();
    let places = match a.rows() {
        1 => 1,
        2 => 2,
        3..=4 => 4,
        _ => 8,
    };
    let left = Left {
        data: copied(a, places, &mut lines),
        rows: a.rows(),
        k: a.cols(),
    };
    let run = |columns: Range<usize>| {
        let (left, output) = (&left, &output);
        // SAFETY: the caller's promise; no two tasks have a column in common.
        unsafe {
            match places {
                1 => some_columns::<1>(left, b, output, columns),
                2 => some_columns::<2>(left, b, output, columns),
                4 => some_columns::<4>(left, b, output, columns),
                _ => some_columns::<8>(left, b, output, columns),
            }
        }
    };
    if b.cols() * b.line_bytes() <= ALONE {
        run(0..b.cols());
    } else {
        let columns = TASK.div_ceil(b.line_bytes());
        let tasks = 0..b.cols().div_ceil(columns);
        tasks.into_par_iter().for_each(|task| {
            run(task * columns..b.cols().min((task + 1) * columns));
        });
    }
    COPY.set(lines);
}

thread_local! {
    /// The memory of the copy, kept for the next call.
    static COPY: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The rows in the order in which they are read: `[groups of 32 along k][M][32]`, padded with
/// zeros.
struct Left {
    data: *const f32,
    rows: usize,
    k: usize,
}

// SAFETY: the memory is only read, and outlives the call.
unsafe impl Sync for Left {}

/// Copies the rows into the order in which they are read, with places for `places` rows.
fn copied(a: Matrix<'_, f32>, places: usize, lines: &mut Vec<Line>) -> *const f32 {
    let length = a.cols().next_multiple_of(32) * places;
    let data = room(lines, length).cast::<f32>();
    // SAFETY: there is room for `length` words.
    let copy = unsafe { std::slice::from_raw_parts_mut(data, length) };
    for (group, copy) in copy.chunks_exact_mut(32 * places).enumerate() {
        for (i, copy) in copy.chunks_exact_mut(32).enumerate() {
            copy.fill(0.0);
            if i < a.rows() {
                let part = &a.row(i)[32 * group..];
                let part = &part[..part.len().min(32)];
                copy[..part.len()].copy_from_slice(part);
            }
        }
    }
    data
}

/// # Safety
/// As for [`product`], with a copy for `M` rows.
unsafe fn some_columns<const M: usize>(
    left: &Left,
    b: BlockMatrix<'_>,
    output: &Output,
    columns: Range<usize>,
) {
    let work = Columns::<M> {
        left,
        b,
        output,
        columns,
    };
    // SAFETY: the caller's promise.
    unsafe { avx512::dispatch(b.block_type(), work) }
}

struct Columns<'a, const M: usize> {
    left: &'a Left,
    b: BlockMatrix<'a>,
    output: &'a Output,
    columns: Range<usize>,
}

impl<const M: usize> avx512::Work for Columns<'_, M> {
    type Output = ();

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn run<L: avx512::Line>(self) {
        let (left, k) = (self.left.data, self.left.k);
        let step = if M == 1 { k } else { NEAR / M };
        let mut first = self.columns.start;
        while first < self.columns.end {
            let columns = first..self.columns.end.min(first + GROUP);
            first = columns.end;
            let mut sums = [[[_mm512_setzero_ps(); 2]; M]; GROUP];
            for from in (0..k).step_by(step) {
                for (sums, j) in sums.iter_mut().zip(columns.clone()) {
                    // Kept in registers for this part of the line.
                    let mut own = *sums;
                    let line = self.b.bytes_of(j).as_ptr();
                    // SAFETY: the line has `k` values, as the rows have.
                    unsafe {
                        L::visit(line, from, k.min(from + step), |p, _, values| {
                            for i in 0..M {
                                for half in 0..2 {
                                    let a = left.add(p * M + 32 * i + 16 * half);
                                    let a = _mm512_load_ps(a);
                                    own[i][half] = _mm512_fmadd_ps(a, values[half], own[i][half]);
                                }
                            }
                        });
                    }
                    *sums = own;
                }
            }
            for (sums, j) in sums.iter().zip(columns) {
                for i in 0..self.left.rows {
                    let sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[i][0], sums[i][1]));
                    let (c, base, _) = self.output.at(i, j, false);
                    // SAFETY: no other task has this column.
                    unsafe { *c = if base.is_null() { sum } else { *base + sum } };
                }
            }
        }
    }
}
