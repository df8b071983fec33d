//! The layer's weight where adapters are merged into it or have taken a part of it.

use burn::tensor::Tensor;

use super::LoraAdapter;
use crate::{BaseLayer, Slot};

impl<M: BaseLayer> LoraAdapter<M> {
    /// Puts a merged weight and bias into the layer; a quantised weight stays one.
    pub(super) fn set_merged(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        match &mut self.quantized {
            Some(quantized) => {
                *quantized = quantized.requantized(weight);
                self.set_bias(bias);
            }
            None => self.base_layer.set_weight(weight, bias),
        }
    }

    pub(super) fn set_bias(&mut self, bias: Option<Tensor<1>>) {
        let Some(bias) = bias.map(Tensor::into_data) else {
            return;
        };
        self.base_layer.visit_params_mut(&mut |name, param| {
            if name == "bias" {
                param.set_data(bias.clone(), false);
            }
        });
    }

    /// Gives the layer back what an adapter took of its weight when it was attached.
    pub(super) fn restore_from(&mut self, adapter: &str) {
        let originals = &mut self.state.originals;
        let Some(index) = originals.iter().position(|(name, _)| name == adapter) else {
            return;
        };
        let (_, before) = originals.remove(index);
        match originals.get_mut(index) {
            // A later adapter took its part from what this one had left.
            Some((_, later)) => {
                let taken = before - later.clone();
                *later = later.clone() + taken.clone();
                let weight = self.weight() + taken;
                Slot::set_weight(self, weight);
            }
            None => Slot::set_weight(self, before),
        }
    }
}
