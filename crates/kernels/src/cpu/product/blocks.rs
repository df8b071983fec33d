//! Products with a weight in blocks.

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;

use rayon::prelude::*;

use super::{Matrix, MatrixMut, Onto, portable};
use crate::cpu::blocks::BlockMatrix;

/// Lines that are held in f32 at a time.
const LINES: usize = 256;

/// `c = onto + a · b`, `[m, k] · [k, n]`, with the values of `b` in f32; the shapes fit.
pub(super) fn product(
    a: Matrix<'_, f32>,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    plainly(a, b, onto, c);
}

/// [`product`] on any processor, some lines in f32 after others.
fn plainly(a: Matrix<'_, f32>, b: BlockMatrix<'_>, onto: Onto<'_>, c: &mut MatrixMut<'_>) {
    portable::start(onto, c);
    let (lines, length) = if b.has_contiguous_rows() {
        (b.rows(), b.cols())
    } else {
        (b.cols(), b.rows())
    };
    if length == 0 {
        return;
    }
    let mut wide = vec![0.0; length * lines.min(LINES)];
    for first in (0..lines).step_by(LINES) {
        let count = LINES.min(lines - first);
        let wide = &mut wide[..count * length];
        (wide.par_chunks_mut(length).enumerate()).for_each(|(line, out)| b.line(first + line, out));
        let wide = Matrix::new(wide, count, length);
        if b.has_contiguous_rows() {
            // The sum along k goes on from one group of rows to the next.
            let a = a.some_columns(first..first + count);
            portable::add_columns(a, wide, 0, c);
        } else {
            portable::add_columns(a, wide.transposed(), first, c);
        }
    }
}
