//! How a layer's weight is stored, and its value if adapters are merged into it or have taken a
//! part of it.

use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use burn_peft_kernels::HeadWeight;

use super::LoraAdapter;
use crate::slot::StoredWeight;
use crate::slot::kept::Kept;
use crate::{BaseLayer, PeftError, Result, Slot};

/// Whether no value is NaN or infinite.
pub(super) fn is_finite<const D: usize>(values: &Tensor<D>) -> bool {
    // A finite sum proves it in one pass and without a copy; large finite values may still add up
    // to infinity.
    let values = values.clone().without_autodiff();
    let sum = values.clone().sum().into_scalar::<f32>();
    sum.is_finite() || values.is_finite().all().into_scalar::<bool>()
}

/// Rejects a weight that has NaN or infinite values before rounding it.
pub(super) fn check_finite(path: &str, weight: &Tensor<2>) -> Result<()> {
    if is_finite(weight) {
        return Ok(());
    }
    Err(PeftError::NotFinite {
        problem: format!(
            "{path}.weight has NaN or infinite values, which rounding to fewer bits would hide: the \
             model is broken, take another copy of its files"
        ),
    })
}

impl LoraAdapter<Linear> {
    /// The weight of an output layer, or of the active adapter's copy of it, `[vocab, d]`.
    pub fn head_weight(&self) -> HeadWeight {
        let kept = self.kept_of(self.acting_layer());
        let kept = kept.and_then(Kept::transposed).and_then(Kept::head);
        kept.unwrap_or_else(|| self.active_weight().transpose().into())
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

    /// The type in which products with the weight take their input, or an equally exact one: bf16
    /// for a weight in eight bits.
    pub fn input_dtype(&self) -> DType {
        let layer = self.acting_layer();
        match self.kept_of(layer) {
            Some(Kept::Int8(_)) => DType::BF16,
            _ => layer.stored_weight().dtype(),
        }
    }

    /// The weight of the slot's own layer in its stored form, if that is not a parameter; copies
    /// have none.
    pub(super) fn kept_of(&self, layer: &M) -> Option<&Kept> {
        let is_own = std::ptr::eq(layer, &self.base_layer);
        self.kept.as_ref().filter(|_| is_own)
    }

    /// Stores the weight in this form from now on.
    pub(super) fn keep(&mut self, weight: Kept) {
        self.kept = Some(weight);
        self.release_weight();
    }

    /// Stores the transposed weight of another layer over the same bytes, if it has bytes: for an
    /// output layer that was tied to an embedding.
    ///
    /// # Panics
    /// If the shape differs.
    pub fn keep_transposed<N: BaseLayer>(&mut self, other: &LoraAdapter<N>) {
        if let Some(weight) = other.kept.as_ref().and_then(Kept::transposed) {
            assert_eq!(weight.dims(), Slot::dims(self), "shape of a weight");
            self.keep(weight);
        }
    }

    /// Whether the layer's own weight is frozen and not rounded already.
    pub(super) fn can_be_quantized(&self) -> bool {
        let mut is_trained = false;
        self.visit_base(&mut |name, param| is_trained |= name == "weight" && param.requires_grad());
        !is_trained && matches!(self.kept, None | Some(Kept::Blocks(_)))
    }

    /// Releases the values of the layer's own parameter.
    pub(super) fn release_weight(&mut self) {
        self.base_layer.visit_params_mut(&mut |name, param| {
            if name == "weight" {
                param.release();
            }
        });
    }

    /// The weight to restore when merged adapters are removed.
    pub(super) fn to_put_back(&self) -> StoredWeight {
        match &self.kept {
            Some(weight) => StoredWeight::Kept(weight.clone()),
            None => StoredWeight::Dense(Box::new(Slot::weight(self))),
        }
    }

    /// Sets a merged weight and bias of the layer; a quantised weight stays quantised, and blocks
    /// become a parameter.
    pub(super) fn set_merged(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        let kept = self.kept.take();
        self.kept = kept.and_then(|kept| kept.requantized(weight.clone()));
        match self.kept {
            Some(_) => self.set_bias(bias),
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

    /// Gives the layer back what an adapter took from its weight when it was attached.
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
