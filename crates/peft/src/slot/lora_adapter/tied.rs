//! An embedding whose weight an output layer shares.

use burn::nn::Embedding;
use burn::tensor::Tensor;
use burn_peft_kernels::HeadWeight;

use super::LoraAdapter;
use crate::slot::StoredWeight;
use crate::slot::kept::Kept;
use crate::{BaseLayer, Frozen, Slot};

impl LoraAdapter<Embedding> {
    /// The weight `[vocab, d]` for an output layer tied to this embedding: the layer's own, or its
    /// copy if that is tied too, changed by the active adapters that act on both. Adapters merged
    /// into the layer's own weight do not affect it.
    pub fn tied_weight(&self) -> HeadWeight {
        self.active_tied_weight()
    }

    /// The output `[tokens, vocab]` of an output layer tied to this embedding, for hidden states
    /// `[tokens, d]`.
    pub fn tied_output(&self, hidden: Tensor<2>) -> Tensor<2> {
        match (&self.state.rows, self.state.disabled) {
            (Some(rows), false) => self.by_rows(rows, hidden, |name, part| {
                self.tied_weight_of(&[name]).logits(part)
            }),
            _ => self.tied_weight().logits(hidden),
        }
    }
}

impl<M: BaseLayer> LoraAdapter<M> {
    /// [`tied_weight_of`](Self::tied_weight_of) for the active adapters.
    pub(super) fn active_tied_weight(&self) -> HeadWeight {
        let active = self.state.active.iter().filter(|_| !self.state.disabled);
        let active: Vec<&str> = active.map(String::as_str).collect();
        self.tied_weight_of(&active)
    }

    /// The weight `[vocab, d]` for an output layer tied to this one, changed by those of the named
    /// adapters that act on both.
    pub(super) fn tied_weight_of(&self, names: &[&str]) -> HeadWeight {
        let tied = |name: &&str| self.saved(name).filter(|_| self.state.is_tied(name));
        let kept = match &self.state.unmerged {
            None => self.kept.clone(),
            Some((StoredWeight::Kept(weight), _)) => Some(weight.clone()),
            Some(_) => None,
        };
        let kept = kept.and_then(Kept::head);
        let weight = match (names.iter().find_map(tied), kept) {
            (Some(layer), _) => layer.stored_weight().into(),
            (None, Some(weight)) => weight,
            (None, None) if self.state.unmerged.is_none() => self.base_layer.stored_weight().into(),
            (None, None) => {
                let kept = self.base_layer.stored_weight().dtype();
                self.unmerged_weight().cast(kept).into()
            }
        };
        let adapters = names.iter().flat_map(|name| self.named(name));
        adapters.fold(weight, |weight, adapter| {
            let layer = Frozen {
                weight: &|| weight.clone().dense(&self.base_layer.device()),
                bias: &|| None,
            };
            let tied = adapter.method.tied_weight(&adapter.tensors(), &layer);
            tied.map_or(weight.clone(), HeadWeight::from)
        })
    }
}
