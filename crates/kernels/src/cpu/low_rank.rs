//! LoRA's part of a product, which can be made along with the large product, part by part.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::ask_for;
use super::product::{FEW_ROWS, Output, WORTH_SHARING, add_few_columns, product_f32};
#[cfg(target_arch = "x86_64")]
use super::product::{Operand, Panels, operand};
use super::{Matrix, MatrixMut, Onto};

/// `hidden = scaling · a · down`, and `c += hidden · up`.
pub struct LowRank<'a> {
    /// `[k, r]`.
    pub down: Matrix<'a, f32>,
    /// `[r, n]`.
    pub up: Matrix<'a, f32>,
    /// What the rows of `hidden` are multiplied by.
    pub scaling: f32,
    /// `[m, r]`, to be written.
    pub hidden: &'a mut [f32],
}

impl<'a> LowRank<'a> {
    fn rank(&self) -> usize {
        self.down.cols()
    }

    /// Makes all rows of `hidden`.
    pub fn before(&mut self, a: Matrix<'_, f32>) {
        let mut hidden = MatrixMut::new(self.hidden, a.rows(), self.rank());
        product_f32(a, self.down, Onto::Zero, &mut hidden);
        scale(self.hidden, self.scaling);
    }

    /// Adds to all of C, after [`before`](Self::before).
    pub fn after(&self, c: &mut MatrixMut<'_>) {
        let hidden = Matrix::new(self.hidden, c.rows(), self.rank());
        product_f32(hidden, self.up, Onto::Current, c);
    }

    /// The same product, to be made part by part; `None` if these shapes or this processor do not
    /// allow it. The bits are the same.
    pub(super) fn beside<'b>(&'b mut self, a: Matrix<'b, f32>) -> Option<Beside<'b>> {
        let rank = self.rank();
        let is_empty = [a.rows(), a.cols(), rank, self.up.cols()].contains(&0);
        if is_empty || !a.has_contiguous_rows() {
            return None;
        }
        let way = if a.rows() <= FEW_ROWS {
            let has_columns = !self.up.has_contiguous_rows();
            has_columns.then_some(Way::Few(self.down, self.up))
        } else {
            Way::in_panels(self.down, self.up)
        };
        Some(Beside {
            way: way?,
            a,
            hidden: self.hidden.as_mut_ptr(),
            rank,
            scaling: self.scaling,
        })
    }
}

/// Makes `hidden` of several of few rows, in one parallel section.
pub(super) fn make_hidden(besides: &[&Beside<'_>]) {
    let columns: usize = besides.iter().map(|beside| beside.rank).sum();
    let values: usize = besides
        .iter()
        .map(|beside| beside.rank * beside.a.cols())
        .sum();
    let width = if values < WORTH_SHARING {
        usize::MAX
    } else {
        columns.div_ceil(2 * rayon::current_num_threads())
    };
    let pieces = besides.iter().flat_map(|beside| {
        let pieces = (0..beside.rank).step_by(if beside.splits() { width } else { usize::MAX });
        pieces.map(move |first| (beside, first..beside.rank.min(first.saturating_add(width))))
    });
    let pieces: Vec<_> = pieces.collect();
    let make = |(beside, columns): (&&Beside<'_>, Range<usize>)| {
        // SAFETY: the pieces of a product do not overlap.
        unsafe { beside.columns(columns) };
    };
    if width == usize::MAX {
        pieces.into_iter().for_each(make);
    } else {
        pieces.into_par_iter().with_max_len(1).for_each(make);
    }
}

fn scale(hidden: &mut [f32], scaling: f32) {
    hidden.iter_mut().for_each(|value| *value *= scaling);
}

/// A [`LowRank`] that a larger product makes part by part, along with its own parts: rows of
/// `hidden` and parts of C, while they are in the cache.
pub(super) struct Beside<'a> {
    way: Way<'a>,
    a: Matrix<'a, f32>,
    /// `[m, rank]`.
    hidden: *mut f32,
    rank: usize,
    scaling: f32,
}

enum Way<'a> {
    /// For few rows.
    Few(Matrix<'a, f32>, Matrix<'a, f32>),
    #[cfg(target_arch = "x86_64")]
    Panels(Panels, Panels),
}

impl Way<'_> {
    #[cfg(target_arch = "x86_64")]
    fn in_panels(down: Matrix<'_, f32>, up: Matrix<'_, f32>) -> Option<Self> {
        Panels::are_available().then(|| Self::Panels(Panels::new(down), Panels::new(up)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn in_panels(_: Matrix<'_, f32>, _: Matrix<'_, f32>) -> Option<Self> {
        None
    }
}

// SAFETY: callers of its methods promise that no two threads write the same rows of `hidden`.
unsafe impl Sync for Beside<'_> {}

impl Beside<'_> {
    /// Makes some rows of `hidden`: all of them, if there are few.
    ///
    /// # Safety
    /// The rows must exist, and no other thread may write or read them.
    pub(super) unsafe fn rows(&self, rows: Range<usize>) {
        let (rank, count) = (self.rank, rows.len());
        let first = self.hidden.wrapping_add(rows.start * rank);
        match &self.way {
            Way::Few(down, _) => {
                // SAFETY: the caller's promise.
                let hidden = unsafe { std::slice::from_raw_parts_mut(first, count * rank) };
                let mut hidden = MatrixMut::new(hidden, count, rank);
                product_f32(self.a.some_rows(rows), *down, Onto::Zero, &mut hidden);
            }
            #[cfg(target_arch = "x86_64")]
            Way::Panels(down, _) => {
                let output = Output::of_rows(self.hidden, rank);
                // SAFETY: the caller's promise; the shapes fit.
                unsafe { down.times(&operand(self.a), rows, 0..rank, &output, false) };
            }
        }
        // SAFETY: the caller's promise; the rows were written above.
        scale(
            unsafe { std::slice::from_raw_parts_mut(first, count * rank) },
            self.scaling,
        );
    }

    /// Whether some columns of `hidden` can be made without the others.
    fn splits(&self) -> bool {
        matches!(&self.way, Way::Few(down, _) if !down.has_contiguous_rows())
    }

    /// Makes some columns of all rows of `hidden`, of which there are few: all columns, unless it
    /// [splits](Self::splits).
    ///
    /// # Safety
    /// No other thread may write or read them.
    unsafe fn columns(&self, columns: Range<usize>) {
        let down = match &self.way {
            Way::Few(down, _) if self.splits() => *down,
            // SAFETY: the caller's promise.
            _ => return unsafe { self.rows(0..self.a.rows()) },
        };
        let output = Output::of_rows(self.hidden, self.rank);
        for row in 0..self.a.rows() {
            // SAFETY: the caller's promise; they are written by nobody else.
            unsafe {
                let first = self.hidden.add(row * self.rank + columns.start);
                first.write_bytes(0, columns.len());
            }
        }
        // SAFETY: the caller's promise.
        unsafe { add_few_columns(self.a, down, columns.clone(), &output) };
        for row in 0..self.a.rows() {
            // SAFETY: the caller's promise; they were written above.
            let made = unsafe {
                let first = self.hidden.add(row * self.rank + columns.start);
                std::slice::from_raw_parts_mut(first, columns.len())
            };
            scale(made, self.scaling);
        }
    }

    /// Asks memory for what some columns of few rows need.
    pub(super) fn ask_for(&self, columns: Range<usize>) {
        if let Way::Few(_, up) = &self.way {
            let up = up.transposed();
            let (start, stride) = (columns.start * up.row_stride(), up.row_stride());
            let count = columns.len() * stride;
            ask_for(up.data().get(start..start + count).unwrap_or_default());
        }
    }

    /// Adds some rows and columns to C: all rows, if there are few. The first column must be a
    /// multiple of 32.
    ///
    /// # Safety
    /// That part of C must exist, its rows must be [made](Self::rows), and no other thread may
    /// write it.
    pub(super) unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>, output: &Output) {
        let (rank, count) = (self.rank, self.a.rows());
        // SAFETY: the caller's promise.
        unsafe {
            match &self.way {
                Way::Few(_, up) => {
                    let hidden = std::slice::from_raw_parts(self.hidden, count * rank);
                    add_few_columns(Matrix::new(hidden, count, rank), *up, columns, output);
                }
                #[cfg(target_arch = "x86_64")]
                Way::Panels(_, up) => {
                    let hidden = Operand::of_rows(self.hidden, rank);
                    up.times(&hidden, rows, columns, output, true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Int8Matrix, Weight};

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |at: usize| ((at + seed) * 7919 % 1009) as f32 / 504.5 - 1.0;
        (0..count).map(number).collect()
    }

    /// Made along with the product, it has the same bits as when it is made before and after it,
    /// whichever way its factors lie.
    #[test]
    fn is_the_same_beside_the_product() {
        for (m, k, n) in [
            (1, 130, 70),
            (4, 64, 200),
            (5, 33, 31),
            (70, 700, 129),
            (600, 20, 65),
        ] {
            let weight = numbers(k * n, 1);
            let weight = Int8Matrix::quantize(Matrix::new(&weight, k, n));
            let (a, bias) = (numbers(m * k, 2), numbers(n, 3));
            let a = Matrix::new(&a, m, k);
            for rank in [1, 8, 16, 40] {
                let (down, up) = (numbers(k * rank, 4), numbers(rank * n, 5));
                let by_rows = (Matrix::new(&down, k, rank), Matrix::new(&up, rank, n));
                let by_columns = (Matrix::new(&down, rank, k), Matrix::new(&up, n, rank));
                let by_columns = (by_columns.0.transposed(), by_columns.1.transposed());
                for (down, up) in [by_rows, by_columns] {
                    for onto in [Onto::Zero, Onto::Row(&bias), Onto::Current] {
                        let run = |is_beside: bool| {
                            let (mut hidden, mut c) = (vec![0.0; m * rank], numbers(m * n, 6));
                            let mut low_rank = LowRank {
                                down,
                                up,
                                scaling: 1.5,
                                hidden: &mut hidden,
                            };
                            let (weight, c_view) = (
                                Weight::Int8(weight.view()),
                                &mut MatrixMut::new(&mut c, m, n),
                            );
                            if is_beside {
                                weight.product_with(a, low_rank, onto, c_view);
                            } else {
                                low_rank.before(a);
                                weight.product(a, onto, c_view);
                                low_rank.after(c_view);
                            }
                            (hidden, c)
                        };
                        assert!(run(true) == run(false), "{m} x {k} x {n}, rank {rank}");
                    }
                }
            }
        }
    }
}
