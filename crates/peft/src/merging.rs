//! Adapters into the weights, and out again.

use burn::tensor::Tensor;

use crate::{BaseModel, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Whether adapters are in the weights now.
    pub fn is_merged(&self) -> bool {
        let mut merged = false;
        self.visit_slots(|_, slot| merged |= !slot.state().merged.is_empty());
        merged
    }

    /// Puts the active adapters into the weights, so that they cost nothing to run.
    ///
    /// The weights from before are kept for [`unmerge_adapter`](Self::unmerge_adapter). With
    /// `safe_merge`, merged weights have to be finite. The weights of a quantised base are quantised
    /// again, as PEFT does, which rounds what is merged: merge into the full-precision base for a
    /// model that says what was trained.
    ///
    /// # Errors
    /// If a method cannot be merged or a merged weight is not finite; nothing is merged then.
    pub fn merge_adapter(&mut self, safe_merge: bool) -> Result<()> {
        let mut active = self.active.iter();
        if let Some(name) = active.find(|name| self.model_adapter(name).is_some()) {
            return Err(PeftError::Adapter(format!(
                "the adapter `{name}` cannot be merged: {} acts at the model, not at its weights",
                self.config(name)?.peft_type()
            )));
        }
        let mut quantized = false;
        self.visit_slots(|_, slot| quantized |= slot.quantized().is_some());
        if quantized {
            tracing::warn!(
                "the base is quantised: merged weights are rounded to codes again, which changes \
                 what the model says; merge into the full-precision base instead (peft merge)"
            );
        }
        self.warn_of_tied_output();
        let mut result = Ok(());
        self.visit_slots_mut(|path, slot| {
            if result.is_ok() {
                result = slot.merge(path, safe_merge);
            }
        });
        if result.is_err() {
            self.unmerge_adapter();
        }
        result
    }

    /// In the weight, what acts on an embedding acts on an output layer tied to it too, whether the
    /// method meant so or not. As in PEFT; but a surprise.
    fn warn_of_tied_output(&self) {
        let Some((input, output)) = self.tied_layers() else {
            return;
        };
        self.visit_slots(|path, slot| {
            let of_slot = slot.adapters().iter().filter(|_| path == input);
            for adapter in of_slot.filter(|adapter| self.active.contains(&adapter.name)) {
                let (method, tensors) = (adapter.method(), adapter.tensors());
                let tied = method.tied_weight(&tensors, slot.weight());
                let merged = method.merge(&tensors, slot.weight(), None);
                let differs = |(merged, _): &(Tensor<2>, _)| {
                    (merged.clone() - tied).abs().max().into_scalar::<f32>() > 0.0
                };
                if merged.as_ref().is_some_and(differs) {
                    tracing::warn!(
                        "the adapter `{}` acts on {input} alone, and merged into its weight on \
                         {output} too, which shares it: the merged model is another one; \
                         ensure_weight_tying = true in training keeps them equal",
                        adapter.name()
                    );
                }
            }
        });
    }

    /// Takes merged adapters out of the weights again; the weights are bit for bit as before.
    pub fn unmerge_adapter(&mut self) {
        self.visit_slots_mut(|_, slot| slot.unmerge());
    }

    /// The plain model with the active adapters in its weights.
    ///
    /// # Errors
    /// As [`merge_adapter`](Self::merge_adapter).
    pub fn merge_and_unload(mut self, safe_merge: bool) -> Result<M> {
        self.merge_adapter(safe_merge)?;
        self.visit_slots_mut(|_, slot| slot.unload(true));
        Ok(self.base_model)
    }

    /// The plain model without any adapter.
    pub fn unload(mut self) -> M {
        self.unmerge_adapter();
        self.visit_slots_mut(|_, slot| slot.unload(false));
        self.base_model
    }
}
