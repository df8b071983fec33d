//! Tests that a device computes what the CPU does.

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_peft_kernels::{ActivationKind, activate, linear, rms_norm};

use crate::DeviceError;
use crate::limits::describe;

type Operation = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;

/// Compares a product, a norm and an activation function with the CPU's, so that a driver which
/// compiles a shader wrongly is found before it spoils a run. Takes milliseconds once a device's
/// kernels, which are those that a run launches, are compiled.
///
/// # Errors
/// If a number differs by more than 1e-3 of the largest, or the device reports a failure.
pub fn self_test(device: &Device) -> Result<(), DeviceError> {
    let cpu = Device::flex();
    let operations: [(&'static str, Operation); 3] = [
        ("product", |a, b| linear(a, b, None, None, None)),
        ("norm", |a, b| {
            let weight = b.slice([0..131, 0..1]).reshape([131]);
            rms_norm(a, weight, 1e-5, 0.0)
        }),
        ("activation", |a, _| {
            activate(a, ActivationKind::GeluTanh, DType::F32)
        }),
    ];
    for (operation, compute) in operations {
        let values = |device: &Device| {
            let result = compute(matrix([37, 131], device), matrix([131, 19], device));
            let failed = |reason: String| DeviceError::Failed {
                device: describe(device),
                reason,
            };
            let data = result.try_into_data().map_err(|e| failed(e.to_string()))?;
            data.try_to_vec::<f32>().map_err(|e| failed(e.to_string()))
        };
        compare(operation, &values(device)?, &values(&cpu)?, || {
            describe(device)
        })?;
    }
    Ok(())
}

fn compare(
    operation: &'static str,
    found: &[f32],
    expected: &[f32],
    device: impl Fn() -> String,
) -> Result<(), DeviceError> {
    let largest = expected.iter().fold(0.0f32, |m, value| m.max(value.abs()));
    for (&found, &expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        if difference.is_nan() || difference > 1e-3 * largest {
            return Err(DeviceError::SelfTest {
                device: device(),
                operation,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// Numbers between -1 and 1 in no pattern, so that a wrong index changes the result.
fn matrix(shape: [usize; 2], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..shape[0] * shape[1])
        .map(|i| (i as f32 * 12.9898).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_named_and_rounding_is_not() {
        assert!(self_test(&Device::flex()).is_ok());
        let compare = |found: &[f32]| compare("sum", found, &[1.0, -2.0], || "gpu".to_owned());
        assert!(compare(&[1.0001, -2.0]).is_ok());
        for wrong in [[1.01, -2.0], [1.0, f32::NAN], [0.0, 0.0]] {
            let error = compare(&wrong).unwrap_err().to_string();
            assert!(error.contains("gpu") && error.contains("sum"), "{error}");
        }
    }
}
