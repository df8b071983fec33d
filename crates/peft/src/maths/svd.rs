//! The singular value decomposition of a weight, on the host.

use burn::linalg;
use burn::tensor::{DType, Tensor, TensorData};
use burn_peft_kernels::cpu_device;

use crate::{PeftError, Result};

/// The maximum number of QR sweeps for one singular value; two or three are usual.
const SWEEPS: usize = 60;

/// Decomposes `matrix` `[rows, cols]`, in row-major order, into `u · diag(s) · vt` with
/// `k = min(rows, cols)`: `u` `[rows, k]`, `s` `[k]` in descending order, `vt` `[k, cols]` (as
/// torch.linalg.svd without full matrices).
///
/// Computed in 64 bits, because the last digits matter to PiSSA and to chains of combinations.
///
/// # Errors
/// If a value is not finite: then there is no decomposition.
///
/// # Panics
/// If `matrix` does not have `rows · cols` values.
pub(crate) fn svd(
    matrix: &[f32],
    rows: usize,
    cols: usize,
) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
    assert_eq!(matrix.len(), rows * cols, "a matrix of {rows} rows");
    if let Some(value) = matrix.iter().find(|value| !value.is_finite()) {
        return Err(PeftError::NotFinite {
            problem: format!(
                "a matrix of {rows} x {cols} holds {value}: it has no singular values; the \
                 weights it comes from are broken"
            ),
        });
    }
    let values: Vec<f64> = matrix.iter().map(|&value| value.into()).collect();
    let device = cpu_device();
    let matrix =
        Tensor::<2>::from_data(TensorData::new(values, [rows, cols]), (&device, DType::F64));
    let (u, s, vt) = linalg::svd::<2, 1>(matrix, SWEEPS);
    let values = |data: TensorData| data.convert::<f32>().iter::<f32>().collect();
    Ok((
        values(u.into_data()),
        values(s.into_data()),
        values(vt.into_data()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition: the product is the matrix, the factors are orthonormal.
    #[test]
    fn both_shapes_come_back_from_their_factors() {
        for (rows, cols) in [(7, 4), (4, 7), (5, 5), (1, 3)] {
            let matrix: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 1.7).sin()).collect();
            let (u, s, vt) = svd(&matrix, rows, cols).unwrap();
            let k = rows.min(cols);
            assert_eq!((u.len(), s.len(), vt.len()), (rows * k, k, k * cols));
            assert!(s.is_sorted_by(|a, b| a >= b) && s[k - 1] >= 0.0);
            for row in 0..rows {
                for col in 0..cols {
                    let sum: f32 = (0..k)
                        .map(|i| u[row * k + i] * s[i] * vt[i * cols + col])
                        .sum();
                    assert!((sum - matrix[row * cols + col]).abs() < 1e-5);
                }
            }
            for a in 0..k {
                for b in 0..k {
                    let of_u: f32 = (0..rows).map(|i| u[i * k + a] * u[i * k + b]).sum();
                    let of_v: f32 = (0..cols).map(|i| vt[a * cols + i] * vt[b * cols + i]).sum();
                    let expected = f32::from(u8::from(a == b));
                    assert!((of_u - expected).abs() < 1e-5 && (of_v - expected).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn broken_weights_are_an_error() {
        let error = svd(&[1.0, f32::NAN], 1, 2).unwrap_err().to_string();
        assert!(error.contains("NaN"), "{error}");
    }
}
