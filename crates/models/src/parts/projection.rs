//! The end of a block's part: a layer, its dropout, and the residual.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn_peft::{BaseLayer, LoraAdapter};
use burn_peft_kernels::dropout_probability;

/// `residual + dropout(layer(input))`, in one operation if nothing is dropped; without a residual,
/// only the layer and its dropout.
pub(crate) fn project_onto<L: BaseLayer<Input = Tensor<2>>>(
    layer: &LoraAdapter<L>,
    input: Tensor<2>,
    dropout: &Dropout,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    match (dropout_probability(dropout, &input), residual) {
        (0.0, residual) => layer.forward_onto(input, residual),
        (probability, None) => burn_peft_kernels::dropout(layer.forward(input), probability),
        (probability, Some(residual)) => {
            residual + burn_peft_kernels::dropout(layer.forward(input), probability)
        }
    }
}
