//! The products on processors without AVX-512, made by the `gemm` crate.

use gemm::Parallelism;
use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::{Matrix, MatrixMut, Onto};

/// The number of columns of B that are held in f32 at a time.
const COLUMNS: usize = 256;

/// `c = onto + a · b`.
pub fn product_f32(a: Matrix<'_, f32>, b: Matrix<'_, f32>, onto: Onto<'_>, c: &mut MatrixMut<'_>) {
    start(onto, c);
    add_columns(a, b, 0, c);
}

/// `c = onto + a · b`, with one block of columns of `b` in f32 after the other.
pub(super) fn product_bf16(
    a: Matrix<'_, f32>,
    b: Matrix<'_, bf16>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    start(onto, c);
    let (k, n) = (b.rows(), b.cols());
    let mut wide = vec![0.0; k * n.min(COLUMNS)];
    for j in (0..n).step_by(COLUMNS) {
        let columns = COLUMNS.min(n - j);
        if b.has_contiguous_rows() {
            for p in 0..k {
                b.row(p)[j..j + columns].convert_to_f32_slice(&mut wide[p * columns..][..columns]);
            }
            add_columns(a, Matrix::new(&wide, k, columns), j, c);
        } else {
            let rows = b.transposed();
            for q in 0..columns {
                rows.row(j + q)
                    .convert_to_f32_slice(&mut wide[q * k..][..k]);
            }
            add_columns(a, Matrix::new(&wide, columns, k).transposed(), j, c);
        }
    }
}

/// Makes C hold what the product is added to.
pub(in crate::cpu) fn start(onto: Onto<'_>, c: &mut MatrixMut<'_>) {
    for i in 0..c.rows() {
        match onto {
            Onto::Zero => c.row_mut(i).fill(0.0),
            Onto::Row(row) => c.row_mut(i).copy_from_slice(row),
            Onto::Current => {}
        }
    }
}

/// Adds `a · b` to the columns of `c` from `column` on.
pub(super) fn add_columns(
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    column: usize,
    c: &mut MatrixMut<'_>,
) {
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    assert!(b.rows() == k && c.rows() == m && column + n <= c.cols());
    let row_stride = c.row_stride() as isize;
    // SAFETY: the views checked that they fit their slices, the assertion that they fit each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr().wrapping_add(column),
            1,
            row_stride,
            true,
            a.data().as_ptr(),
            a.col_stride() as isize,
            a.row_stride() as isize,
            b.data().as_ptr(),
            b.col_stride() as isize,
            b.row_stride() as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        )
    }
}
