//! Sums of rows and columns.

use super::buffer::{for_rows, vectorised};

vectorised! {
    fn add_row<'a>(rows: &'a [f32], row: &'a [f32], out: &'a mut [f32]) {
        let d = row.len();
        for (out, values) in out.chunks_exact_mut(d).zip(rows.chunks_exact(d)) {
            for ((out, value), more) in out.iter_mut().zip(values).zip(row) {
                *out = value + more;
            }
        }
    }

    fn add_columns<'a>(rows: &'a [f32], sums: &'a mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// Sets the rows of `out`, of `d` values each, to those of `rows`, with `bias`, `[d]`, added to each.
///
/// # Panics
/// If `rows` is shorter than `out`.
pub fn add_rows(out: &mut [f32], rows: &[f32], bias: Option<&[f32]>, d: usize) {
    for_rows(out, d, |first, out| {
        let rows = &rows[first * d..first * d + out.len()];
        match bias {
            Some(bias) => add_row(rows, bias, out),
            None => out.copy_from_slice(rows),
        }
    });
}

/// The sums of the columns, `[d]`, of rows of `d` values.
pub fn column_sums(rows: &[f32], d: usize) -> Vec<f32> {
    let mut sums = vec![0.0; d];
    add_columns(rows, &mut sums);
    sums
}
