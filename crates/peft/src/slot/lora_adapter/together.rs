//! Several layers with the same input.

use burn::tensor::Tensor;
use burn_peft_kernels::{LinearLayer, LinearWeight, linears};

use super::LoraAdapter;
use crate::BaseLayer;
use crate::slot::kept::Kept;

impl<M: BaseLayer<Input = Tensor<2>>> LoraAdapter<M> {
    /// The outputs of several layers for the same input: what [`forward`](Self::forward) of each
    /// computes. It takes fewer steps if all are linear and changed by LoRA: on GPUs if they are dense,
    /// on the CPU if they are in eight bits, changed or not, and a token is decoded.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    #[track_caller]
    pub fn forward_together<const N: usize>(
        layers: [&Self; N],
        input: Tensor<2>,
    ) -> [Tensor<2>; N] {
        let linear: Option<Vec<_>> = layers.iter().map(|layer| layer.as_linear()).collect();
        let Some(Ok(linear)) = linear.map(<[LinearLayer; N]>::try_from) else {
            return layers.map(|layer| layer.forward(input.clone()));
        };
        for layer in layers {
            layer.take_in(&input);
        }
        linears(input, linear)
    }

    /// The layer with what acts on it, if it is linear, dense or in eight bits, and the change of low
    /// rank.
    fn as_linear(&self) -> Option<LinearLayer> {
        let by_rows = self.state.rows.is_some() && !self.state.disabled;
        let layer = self.acting_layer();
        if by_rows || !layer.kind().is_linear() {
            return None;
        }
        Some(LinearLayer {
            weight: match self.kept_of(layer) {
                None => LinearWeight::Dense(layer.stored_weight()),
                Some(Kept::Int8(weight)) => LinearWeight::Int8(weight.clone()),
                Some(_) => return None,
            },
            bias: layer.bias(),
            lora: Self::low_rank(&self.acting())?,
        })
    }
}
