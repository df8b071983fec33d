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

/// The approximate GELU `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))` (arXiv 1606.08415).
pub fn gelu(x: &[f32]) -> Vec<f32> {
    filled(x.len(), |out| {
        for_rows(out, 1, |first, out| {
            let x = &x[first..first + out.len()];
            vectorised(|| {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = x * gate(x);
                }
            });
        });
    })
}

/// The gradient of `x`, given that of [`gelu`]'s output.
pub fn gelu_backward(x: &[f32], grad: &[f32]) -> Vec<f32> {
    filled(x.len(), |out| {
        for_rows(out, 1, |first, out| {
            let pieces = first..first + out.len();
            let (x, grad) = (&x[pieces.clone()], &grad[pieces]);
            vectorised(|| {
                for ((out, &x), grad) in out.iter_mut().zip(x).zip(grad) {
                    let gate = gate(x);
                    let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
                    *out = grad * (gate + 2.0 * x * gate * (1.0 - gate) * slope);
                }
            });
        });
    })
}

/// Sets the rows of `out` to those of `rows`, with `bias` added to each.
pub fn add_rows(out: &mut [f32], rows: &[f32], bias: Option<&[f32]>, d: usize) {
    for_rows(out, d, |first, out| {
        let rows = &rows[first * d..first * d + out.len()];
        let Some(bias) = bias else {
            return out.copy_from_slice(rows);
        };
        vectorised(|| {
            for (out, row) in out.chunks_exact_mut(d).zip(rows.chunks_exact(d)) {
                for ((out, value), bias) in out.iter_mut().zip(row).zip(bias) {
                    *out = value + bias;
                }
            }
        });
    });
}

/// The sums of the columns of rows of `d` values.
pub fn column_sums(rows: &[f32], d: usize) -> Vec<f32> {
    let mut sums = vec![0.0; d];
    vectorised(|| {
        for row in rows.chunks_exact(d) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    });
    sums
}
