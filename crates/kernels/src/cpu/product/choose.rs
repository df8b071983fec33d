//! Matrix products `C = onto + A · B` in f32, with B in f32 or bf16.

use half::bf16;

use super::{Matrix, MatrixMut, PackedLeft, blocks, gemv, portable};
#[cfg(target_arch = "x86_64")]
use super::{few, packed, thin};
use crate::cpu::blocks::BlockMatrix;

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Onto<'a> {
    /// Nothing: C is overwritten.
    Zero,
    /// The same row, `[n]`, in every row of C, which is overwritten: a bias.
    Row(&'a [f32]),
    /// What C holds.
    Current,
}

/// `c = onto + a · b` in f32: `[m, k] · [k, n]`, any strides.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn product_f32(a: Matrix<'_, f32>, b: Matrix<'_, f32>, onto: Onto<'_>, c: &mut MatrixMut<'_>) {
    check([a.rows(), a.cols()], &b, onto, c);
    if is_few(&a, &b) {
        return gemv::product(a, b, onto, c);
    }
    #[cfg(target_arch = "x86_64")]
    if !is_empty(&a, &b) && is_x86_feature_detected!("avx512f") {
        let k = a.cols();
        if takes_few(a.rows(), &b) && a.has_contiguous_rows() {
            // SAFETY: the feature and the shapes were checked.
            return unsafe { few::product_f32(a, b, onto, c) };
        }
        if is_low_rank(&a, &b) {
            let (rows, stride) = (a.rows(), k + GAP);
            let mut turned = vec![0.0; rows * stride];
            for (p, column) in a.data().chunks(a.col_stride()).take(k).enumerate() {
                for (row, value) in column[..rows].iter().enumerate() {
                    turned[row * stride + p] = *value;
                }
            }
            let a = Matrix::with_stride(&turned, rows, k, stride);
            // SAFETY: the feature and the shapes were checked.
            return unsafe { few::product_f32(a, b, onto, c) };
        }
        if b.cols() <= thin::COLUMNS && a.has_contiguous_rows() {
            return thin::product(a, b, onto, c);
        }
        // SAFETY: the feature and the shapes were checked.
        unsafe {
            packed::product(
                &packed::F32,
                packed::Rows::Loose(packed::operand(a)),
                &packed::operand(b),
                k,
                onto,
                c,
            )
        };
        return;
    }
    portable::product_f32(a, b, onto, c);
}

/// `c = onto + bf16(a) · b`, summed in f32: `[m, k] · [k, n]`, any strides. With AVX512-BF16 `a` is
/// rounded to bf16, to nearest even; without it, and where `a` has at most four rows, only `b` has
/// bf16's precision.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn product_bf16(
    a: Matrix<'_, f32>,
    b: Matrix<'_, bf16>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    check([a.rows(), a.cols()], &b, onto, c);
    if is_few(&a, &b) {
        return gemv::product(a, b, onto, c);
    }
    match PackedLeft::new(a) {
        Some(a) => product_packed(&a, b, onto, c),
        None => portable::product_bf16(a, b, onto, c),
    }
}

/// As [`product_bf16`], with a left side that was packed before.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn product_packed(a: &PackedLeft, b: Matrix<'_, bf16>, onto: Onto<'_>, c: &mut MatrixMut<'_>) {
    check([a.rows(), a.cols()], &b, onto, c);
    if b.cols() == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a packed matrix exists only if the processor has the features; the shapes were
    // checked.
    unsafe {
        if takes_few(a.rows(), &b) {
            return few::product_packed(a, b, onto, c);
        }
        let left = packed::Rows::Packed(a);
        packed::product(&packed::BF16, left, &packed::bits(b), a.cols(), onto, c)
    };
}

fn is_empty<A, B>(a: &Matrix<'_, A>, b: &Matrix<'_, B>) -> bool {
    a.rows() == 0 || a.cols() == 0 || b.cols() == 0
}

/// Whether reading the weight is all the work.
fn is_few<A, B>(a: &Matrix<'_, A>, b: &Matrix<'_, B>) -> bool {
    a.rows() <= gemv::ROWS && a.has_contiguous_rows() && !is_empty(a, b)
}

/// A gap after each row: without it, rows of a page's size would all be in the same set of the
/// cache.
#[cfg(target_arch = "x86_64")]
const GAP: usize = 16;

/// Whether this is the gradient of a low-rank factor: few rows, which are stored as columns, times
/// many. Packing the many would cost more than transposing the few.
#[cfg(target_arch = "x86_64")]
fn is_low_rank(a: &Matrix<'_, f32>, b: &Matrix<'_, f32>) -> bool {
    let is_turned = !a.has_contiguous_rows() && b.has_contiguous_rows();
    is_turned && a.rows() <= 4 * few::ROWS && a.rows() < a.cols()
}

/// Whether copying the weight would be most of the work.
#[cfg(target_arch = "x86_64")]
fn takes_few<B>(rows: usize, b: &Matrix<'_, B>) -> bool {
    rows <= few::ROWS && b.has_contiguous_rows()
}

/// `c = onto + a · b` with the values of `b` in f32, or in bf16 if `b` allows it and there are many
/// rows: `[m, k] · [k, n]`, any strides.
///
/// # Panics
/// If the shapes do not fit each other.
pub(super) fn product_blocks(
    a: Matrix<'_, f32>,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    check_shapes([a.rows(), a.cols()], [b.rows(), b.cols()], onto, c);
    blocks::product(a, b, onto, c);
}

/// As [`product_blocks`], with a left side that was packed before and so has bf16's precision.
///
/// # Panics
/// If the shapes do not fit each other.
pub(super) fn product_packed_blocks(
    a: &PackedLeft,
    b: BlockMatrix<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    check_shapes([a.rows(), a.cols()], [b.rows(), b.cols()], onto, c);
    blocks::product_packed(a, b, onto, c);
}

fn check<B>(a: [usize; 2], b: &Matrix<'_, B>, onto: Onto<'_>, c: &MatrixMut<'_>) {
    check_shapes(a, [b.rows(), b.cols()], onto, c);
}

pub(super) fn check_shapes([m, k]: [usize; 2], b: [usize; 2], onto: Onto<'_>, c: &MatrixMut<'_>) {
    assert!(
        k == b[0] && m == c.rows() && b[1] == c.cols(),
        "[{m}, {k}] · [{}, {}] does not make [{}, {}]",
        b[0],
        b[1],
        c.rows(),
        c.cols(),
    );
    if let Onto::Row(row) = onto {
        assert_eq!(
            row.len(),
            c.cols(),
            "a bias has as many elements as C has columns"
        );
    }
}
