//! The forms in which a layer's weight is kept, and what it is where adapters are merged into it or
//! have taken a part of it.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn_peft_kernels::{
    BlockWeight, HeadWeight, Lora, QuantizedWeight, block_linear, quantized_linear,
};

use super::LoraAdapter;
use crate::slot::StoredWeight;
use crate::{BaseLayer, Slot};

/// A frozen weight in a form that is no parameter's.
pub(super) enum Kept<'a> {
    Quantized(&'a QuantizedWeight),
    Blocks(&'a BlockWeight),
}

impl Kept<'_> {
    /// The output of a linear layer, `[tokens, d_out]`, of an input `[tokens, d_in]`.
    pub(super) fn linear(
        &self,
        input: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Option<Tensor<2>>,
        lora: Option<Lora>,
    ) -> Tensor<2> {
        match self {
            Self::Quantized(weight) => quantized_linear(input, weight, bias, residual, lora),
            Self::Blocks(weight) => block_linear(input, weight, bias, residual, lora),
        }
    }
}

impl LoraAdapter<Linear> {
    /// The weight of an output layer, or of the active adapter's copy of it, `[vocab, d]`.
    pub fn head_weight(&self) -> HeadWeight {
        match self.kept_of(self.acting_layer()) {
            Some(Kept::Blocks(weight)) => weight.transposed().into(),
            _ => self.active_weight().transpose().into(),
        }
    }

    /// The bias of an output layer, or of the active adapter's copy of it, `[vocab]`, if it has one.
    pub fn head_bias(&self) -> Option<Tensor<1>> {
        self.acting_layer().bias()
    }
}

impl<M: BaseLayer> LoraAdapter<M> {
    /// The weight of the layer, or of the active adapter's copy of it.
    pub fn active_weight(&self) -> Tensor<2> {
        let layer = self.acting_layer();
        match self.kept_of(layer) {
            Some(_) => Slot::weight(self),
            None => layer.stored_weight(),
        }
    }

    /// The weight of the slot's own layer in the form it is kept in, if that is no parameter's;
    /// copies have none.
    pub(super) fn kept_of(&self, layer: &M) -> Option<Kept<'_>> {
        if !std::ptr::eq(layer, &self.base_layer) {
            return None;
        }
        let quantized = self.quantized.as_ref().map(Kept::Quantized);
        quantized.or(self.blocks.as_ref().map(Kept::Blocks))
    }

    /// Releases what the layer's own parameter holds of the weight.
    pub(super) fn release_weight(&mut self) {
        self.base_layer.visit_params_mut(&mut |name, param| {
            if name == "weight" {
                param.release();
            }
        });
    }

    /// The weight as it is to be put back once what is merged into it is taken out.
    pub(super) fn to_put_back(&self) -> StoredWeight {
        match (&self.quantized, &self.blocks) {
            (Some(weight), _) => StoredWeight::Quantized(Box::new(weight.clone())),
            (_, Some(weight)) => StoredWeight::Blocks(weight.clone()),
            _ => StoredWeight::Dense(Box::new(Slot::weight(self))),
        }
    }

    /// Puts a merged weight and bias into the layer; a quantised weight stays one, and blocks become a
    /// parameter.
    pub(super) fn set_merged(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        match &mut self.quantized {
            Some(quantized) => {
                *quantized = quantized.requantized(weight);
                self.set_bias(bias);
            }
            None => {
                self.blocks = None;
                self.base_layer.set_weight(weight, bias);
            }
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

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn a_copy_of_an_output_layer_comes_with_its_bias() {
        let device = Device::flex().autodiff();
        let mut head = LoraAdapter::new(LinearConfig::new(2, 3).init(&device));
        head.add_saved("a");
        let own = [1.0f32, 2.0, 3.0];
        head.visit_saved_mut("a", &mut |name, param| {
            if name == "bias" {
                param.set_data(TensorData::from(own), false);
            }
        });
        head.state.active = vec!["a".into()];
        let bias = |head: &LoraAdapter<Linear>| -> Vec<f32> {
            let bias = head.head_bias().unwrap().without_autodiff();
            bias.into_data().try_to_vec().unwrap()
        };
        assert_eq!(bias(&head), own);
        head.state.disabled = true;
        assert_ne!(bias(&head), own);
    }
}
