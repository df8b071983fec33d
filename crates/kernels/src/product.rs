//! A product with a frozen weight, in plain tensors.

use burn::tensor::{DType, FloatDType, Tensor};

use crate::cpu_device;

/// `x · weight`, `[rows, k]` and `[k, columns]`, in the type of `x`.
///
/// A GPU multiplies with a weight in bf16 as it is: what its units for matrices are for, and no
/// 32-bit copy waits for the backward pass. The CPU's plain body, the reference, widens it.
pub(crate) fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let (on_gpu, dtype) = (x.device() != cpu_device(), x.dtype());
    match weight.dtype() {
        DType::BF16 if on_gpu && dtype == DType::F32 => in_bf16(x, weight),
        _ => x.matmul(weight.cast(dtype)),
    }
}

fn in_bf16(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    x.cast(FloatDType::BF16)
        .matmul(weight)
        .cast(FloatDType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn in_bf16_values_and_gradients_are_near() {
        let weight = random([33, 20], 1.0);
        let narrow = weight.clone().cast(FloatDType::BF16);
        let x = random([7, 33], 1.0);
        let run = |product: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let x = x.clone().autodiff().require_grad();
            let output = product(x.clone());
            let gradient = x.grad(&output.clone().square().sum().backward()).unwrap();
            (output.inner(), gradient)
        };
        let (found, found_gradient) = run(&|x| in_bf16(x, narrow.clone()));
        let (expected, gradient) = run(&|x| product(x, narrow.clone()));
        for (found, expected) in [(found, expected), (found_gradient, gradient)] {
            let largest = expected.clone().abs().max().into_scalar::<f32>();
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            // bf16 keeps 8 bits.
            assert!(
                difference > 0.0 && difference < largest / 64.0,
                "{difference}"
            );
        }
    }
}
