//! Multiplying by a factor that most families do not have.

use burn::tensor::Tensor;

/// The tensor times `factor`; unchanged if that is 1.
pub(crate) fn scaled(tensor: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 {
        tensor
    } else {
        tensor * factor
    }
}
