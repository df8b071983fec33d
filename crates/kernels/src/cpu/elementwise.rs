//! Functions of single values, in one pass over memory.

use super::buffer::{filled, for_rows, vectorised};
use super::exp::exp_one as exp;

/// √(2/π)
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `sigmoid(2 u)` with `u = √(2/π) (x + 0.044715 x³)`: `(1 + tanh u) / 2`.
#[inline(always)]
fn gate(x: f32) -> f32 {
    let u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
    1.0 / (1.0 + exp(-2.0 * u))
}

vectorised! {
    /// The approximate GELU of each value.
    pub(super) fn gelu_of<'a>(x: &'a [f32], out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x * gate(x);
        }
    }

    /// The gradients of `x`, given those of the GELU.
    pub(super) fn gelu_slopes<'a>(x: &'a [f32], grad: &'a [f32], out: &'a mut [f32]) {
        for ((out, &x), grad) in out.iter_mut().zip(x).zip(grad) {
            let gate = gate(x);
            let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
            *out = grad * (gate + 2.0 * x * gate * (1.0 - gate) * slope);
        }
    }

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

/// The approximate GELU `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))` (arXiv 1606.08415).
pub fn gelu(x: &[f32]) -> Vec<f32> {
    filled(x.len(), |out| {
        for_rows(out, 1, |first, out| gelu_of(&x[first..][..out.len()], out));
    })
}

/// The gradient of `x`, given that of [`gelu`]'s output.
pub fn gelu_backward(x: &[f32], grad: &[f32]) -> Vec<f32> {
    filled(x.len(), |out| {
        for_rows(out, 1, |first, out| {
            let piece = first..first + out.len();
            gelu_slopes(&x[piece.clone()], &grad[piece], out);
        });
    })
}

/// Sets the rows of `out` to those of `rows`, with `bias` added to each.
pub fn add_rows(out: &mut [f32], rows: &[f32], bias: Option<&[f32]>, d: usize) {
    for_rows(out, d, |first, out| {
        let rows = &rows[first * d..first * d + out.len()];
        match bias {
            Some(bias) => add_row(rows, bias, out),
            None => out.copy_from_slice(rows),
        }
    });
}

/// The sums of the columns of rows of `d` values.
pub fn column_sums(rows: &[f32], d: usize) -> Vec<f32> {
    let mut sums = vec![0.0; d];
    add_columns(rows, &mut sums);
    sums
}
