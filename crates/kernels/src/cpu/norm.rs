//! The layer norm of rows.

use super::buffer::{filled_rows, vectorised};

const LANES: usize = 16;

/// The sum of `value(index)` in sixteen partial sums, which the compiler keeps in one register.
#[inline(always)]
pub(super) fn sum(length: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = length / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += value(start + lane);
        }
    }
    let rest: f32 = (whole..length).map(&value).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Mean and reciprocal standard deviation of a row.
#[inline(always)]
fn statistics(row: &[f32], epsilon: f32) -> (f32, f32) {
    let d = row.len() as f32;
    let mean = sum(row.len(), |index| row[index]) / d;
    let variance = sum(row.len(), |index| (row[index] - mean) * (row[index] - mean)) / d;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

vectorised! {
    fn normalise<'a>(
        x: &'a [f32],
        gamma: &'a [f32],
        beta: Option<&'a [f32]>,
        epsilon: f32,
        out: &'a mut [f32],
    ) {
        let d = gamma.len();
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let (mean, deviation) = statistics(x, epsilon);
            for ((out, x), gamma) in out.iter_mut().zip(x).zip(gamma) {
                *out = (x - mean) * deviation * gamma;
            }
            if let Some(beta) = beta {
                for (out, beta) in out.iter_mut().zip(beta) {
                    *out += beta;
                }
            }
        }
    }

    fn slopes<'a>(
        x: &'a [f32],
        gamma: &'a [f32],
        grad: &'a [f32],
        epsilon: f32,
        out: &'a mut [f32],
    ) {
        let d = gamma.len();
        let rows = x.chunks_exact(d).zip(grad.chunks_exact(d));
        for ((x, grad), out) in rows.zip(out.chunks_exact_mut(d)) {
            let (mean, deviation) = statistics(x, epsilon);
            let g = sum(d, |i| grad[i] * gamma[i]) / d as f32;
            let gn = sum(d, |i| grad[i] * gamma[i] * (x[i] - mean) * deviation) / d as f32;
            for i in 0..d {
                let n = (x[i] - mean) * deviation;
                out[i] = (grad[i] * gamma[i] - g - n * gn) * deviation;
            }
        }
    }

    fn parameter_slopes<'a>(
        x: &'a [f32],
        grad: &'a [f32],
        epsilon: f32,
        gamma: &'a mut [f32],
        beta: &'a mut [f32],
    ) {
        let d = gamma.len();
        for (x, grad) in x.chunks_exact(d).zip(grad.chunks_exact(d)) {
            let (mean, deviation) = statistics(x, epsilon);
            for i in 0..d {
                gamma[i] += grad[i] * (x[i] - mean) * deviation;
                beta[i] += grad[i];
            }
        }
    }
}

/// `(x - mean) / sqrt(variance + epsilon) · gamma + beta` over rows of `gamma.len()` values; `x`
/// holds whole rows, and `beta` is as long as `gamma`.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: Option<&[f32]>, epsilon: f32) -> Vec<f32> {
    filled_rows(x.len(), gamma.len(), |rows, out| {
        normalise(&x[rows], gamma, beta, epsilon, out);
    })
}

/// The gradient of `x`, given that of the output: with `n = (x - mean) / deviation` and
/// `g = grad · gamma`, it is `(g - mean(g) - n · mean(g n)) / deviation`.
pub fn layer_norm_backward(x: &[f32], gamma: &[f32], grad: &[f32], epsilon: f32) -> Vec<f32> {
    filled_rows(x.len(), gamma.len(), |rows, out| {
        slopes(&x[rows.clone()], gamma, &grad[rows], epsilon, out);
    })
}

/// The gradients of `gamma` and `beta`, `[d]` each, given that of the output; `x` and `grad` hold
/// rows of `d` values.
pub fn layer_norm_parameters(x: &[f32], d: usize, grad: &[f32], epsilon: f32) -> [Vec<f32>; 2] {
    let (mut gamma, mut beta) = (vec![0.0; d], vec![0.0; d]);
    parameter_slopes(x, grad, epsilon, &mut gamma, &mut beta);
    [gamma, beta]
}
