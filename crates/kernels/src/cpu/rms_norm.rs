//! The root-mean-square norm of rows.

use super::buffer::{filled_rows, vectorised};
use super::norm::sum;

/// The reciprocal root of a row's mean square.
#[inline(always)]
fn scale(row: &[f32], epsilon: f32) -> f32 {
    let square = sum(row.len(), |index| row[index] * row[index]) / row.len() as f32;
    1.0 / (square + epsilon).sqrt()
}

vectorised! {
    fn normalise<'a>(x: &'a [f32], factor: &'a [f32], epsilon: f32, out: &'a mut [f32]) {
        let d = factor.len();
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let scale = scale(x, epsilon);
            for ((out, x), factor) in out.iter_mut().zip(x).zip(factor) {
                *out = x * scale * factor;
            }
        }
    }

    fn slopes<'a>(
        x: &'a [f32],
        factor: &'a [f32],
        grad: &'a [f32],
        epsilon: f32,
        out: &'a mut [f32],
    ) {
        let d = factor.len();
        let rows = x.chunks_exact(d).zip(grad.chunks_exact(d));
        for ((x, grad), out) in rows.zip(out.chunks_exact_mut(d)) {
            let scale = scale(x, epsilon);
            let mean = sum(d, |i| grad[i] * factor[i] * x[i]) / d as f32;
            let along = mean * scale * scale;
            for (((out, x), grad), factor) in out.iter_mut().zip(x).zip(grad).zip(factor) {
                *out = (grad * factor - along * x) * scale;
            }
        }
    }

    fn weight_slopes<'a>(x: &'a [f32], grad: &'a [f32], epsilon: f32, out: &'a mut [f32]) {
        let d = out.len();
        for (x, grad) in x.chunks_exact(d).zip(grad.chunks_exact(d)) {
            let scale = scale(x, epsilon);
            for ((out, x), grad) in out.iter_mut().zip(x).zip(grad) {
                *out += grad * x * scale;
            }
        }
    }
}

/// `x / sqrt(mean(x²) + epsilon) · factor` over rows of `factor.len()` values; `x` holds whole rows.
pub fn rms_norm(x: &[f32], factor: &[f32], epsilon: f32) -> Vec<f32> {
    filled_rows(x.len(), factor.len(), |rows, out| {
        normalise(&x[rows], factor, epsilon, out);
    })
}

/// The gradient of `x`, given that of the output: with `r = 1 / sqrt(mean(x²) + epsilon)` and
/// `g = grad · factor`, it is `r (g - x r² mean(g x))`.
pub fn rms_norm_backward(x: &[f32], factor: &[f32], grad: &[f32], epsilon: f32) -> Vec<f32> {
    filled_rows(x.len(), factor.len(), |rows, out| {
        slopes(&x[rows.clone()], factor, &grad[rows], epsilon, out);
    })
}

/// The gradient of the factor, `[d]`, given that of the output; `x` and `grad` hold rows of `d`
/// values.
pub fn rms_norm_weight(x: &[f32], d: usize, grad: &[f32], epsilon: f32) -> Vec<f32> {
    let mut factor = vec![0.0; d];
    weight_slopes(x, grad, epsilon, &mut factor);
    factor
}
