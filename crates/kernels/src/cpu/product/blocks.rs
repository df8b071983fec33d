//! Products with a weight in blocks.

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;

use half::bf16;
use rayon::prelude::*;

use super::{Matrix, MatrixMut, Onto, PackedLeft, portable, product_f32};
#[cfg(target_arch = "x86_64")]
use super::{blocks_few, blocks_pack, packed};
#[cfg(target_arch = "x86_64")]
use crate::cpu::blocks::avx512;
use crate::cpu::blocks::{BlockMatrix, BlockType};

/// The number of lines that are held in f32 at a time.
const LINES: usize = 256;

/// Whether a left side of `rows` rows is better packed in bf16.
pub(super) fn wants_packed(b: &BlockMatrix<'_>, rows: usize) -> bool {
    b.rounds() && rows > ROWS
}

/// The most rows for which the weight is read without a copy.
const ROWS: usize = 8;

/// `c = onto + a · b`, `[m, k] · [k, n]`, with the values of `b` in f32; if `b` allows it and there
/// are many rows, with both sides in bf16. The shapes must fit.
pub(super) fn product(
    a: Matrix<'_, f32>,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    if b.block_type() == BlockType::F32
        && let Some(b) = b.dense::<f32>()
    {
        return product_f32(a, b, onto, c);
    }
    if wants_packed(&b, a.rows())
        && let Some(a) = PackedLeft::new(a)
    {
        return product_packed(&a, b, onto, c);
    }
    let is_empty = [a.rows(), a.cols(), b.cols()].contains(&0);
    #[cfg(target_arch = "x86_64")]
    if !is_empty && avx512::is_available() {
        // SAFETY: the features were checked, the shapes fit.
        unsafe {
            if a.rows() <= ROWS && a.has_contiguous_rows() && !b.has_contiguous_rows() {
                return blocks_few::product(a, b, onto, c);
            }
            let left = packed::Rows::Loose(packed::operand(a));
            let b = blocks_pack::Wide(b);
            return packed::product(&packed::F32, left, &b, a.cols(), onto, c);
        }
    }
    plainly(a, b, onto, c);
}

/// As [`product`], with a left side that was packed before.
pub(super) fn product_packed(
    a: &PackedLeft,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    if b.cols() == 0 {
        return;
    }
    if b.block_type() == BlockType::BF16
        && let Some(b) = b.dense::<bf16>()
    {
        return super::product_packed(a, b, onto, c);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a packed matrix exists only if the processor has the features; the shapes fit.
    unsafe {
        let left = packed::Rows::Packed(a);
        let b = blocks_pack::Narrow(b);
        packed::product(&packed::BF16, left, &b, a.cols(), onto, c)
    };
}

/// [`product`] on any processor, with some lines in f32 at a time.
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
