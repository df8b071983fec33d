//! What the columns of a weight are divided by before it is rounded.
//!
//! One scale for a square is too large for its columns of small values. Divided by factors of their own
//! all columns have the same largest value. The factor is multiplied into the outputs, and in the other
//! direction into the inputs before they are rounded. Rows have none: measured on SmolLM2, inputs that
//! are multiplied by rows' factors lose more by their own rounding than the weight gains.

use rayon::prelude::*;

use super::SQUARE;
use crate::cpu::Matrix;

/// A column whose largest value is further below the matrix's than that is taken for so large.
const RANGE: f32 = 1.0 / (1 << 20) as f32;

/// So many ones, up to whole squares.
pub(super) fn ones(length: usize) -> Vec<f32> {
    vec![1.0; length.next_multiple_of(SQUARE)]
}

/// A factor for each column; beyond them ones, up to whole squares. Values that are not finite have no
/// part in it.
pub(super) fn column_factors(values: Matrix<'_, f32>) -> Vec<f32> {
    let mut factors = ones(values.cols());
    let found = largest_of_columns(values);
    let all = found.iter().copied().fold(0.0, f32::max);
    if all > f32::MIN_POSITIVE / RANGE {
        for (factor, found) in factors.iter_mut().zip(found) {
            *factor = found.max(all * RANGE);
        }
    }
    factors
}

/// The largest magnitude of each column.
fn largest_of_columns(values: Matrix<'_, f32>) -> Vec<f32> {
    let (rows, columns) = (values.rows(), values.cols());
    let size = |row: usize, col: usize| {
        let size = values.at(row, col).abs();
        if size.is_finite() { size } else { 0.0 }
    };
    if !values.has_contiguous_rows() {
        let columns = (0..columns).into_par_iter().with_min_len(SQUARE);
        let of_column = |col| (0..rows).fold(0.0, |most, row| size(row, col).max(most));
        return columns.map(of_column).collect();
    }
    // Some of the rows each, and then the largest of all.
    let rows = (0..rows).into_par_iter().with_min_len(SQUARE);
    let of_row = |mut most: Vec<f32>, row: usize| {
        for (col, most) in most.iter_mut().enumerate() {
            *most = size(row, col).max(*most);
        }
        most
    };
    let nothing = || vec![0.0; columns];
    rows.fold(nothing, of_row).reduce(nothing, |mut a, b| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = b.max(*a));
        a
    })
}
