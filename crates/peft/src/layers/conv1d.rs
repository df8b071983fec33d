//! transformers' `Conv1D`, GPT-2's linear layer.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use burn_peft_kernels::linear;

/// A linear layer whose weight is kept as `[d_in, d_out]`, in memory and in the file:
/// `y = x W + b` (transformers, `pytorch_utils.Conv1D`).
#[derive(Module, Debug)]
pub struct Conv1D {
    /// The weight, `[d_in, d_out]`.
    pub weight: Param<Tensor<2>>,
    /// The bias, `[d_out]`.
    pub bias: Param<Tensor<1>>,
}

impl Conv1D {
    /// A layer from `d_in` to `d_out` features: weights from a normal distribution of standard
    /// deviation 0.02, biases zero. The values are made when they are first used, so that
    /// loading a checkpoint costs no initialisation.
    pub fn new(d_in: usize, d_out: usize, device: &Device) -> Self {
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        Self {
            weight: normal.init([d_in, d_out], device),
            bias: Initializer::Zeros.init([d_out], device),
        }
    }

    /// Maps `[tokens, d_in]` to `[tokens, d_out]`.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        linear(input, self.weight.val(), Some(self.bias.val()), None, None)
    }
}
