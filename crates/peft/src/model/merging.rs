//! Merging adapters into the weights, and undoing it.

use crate::model::tying::{keep_output, tied_weight};
use crate::{BaseModel, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Whether adapters are merged now.
    pub fn is_merged(&self) -> bool {
        let mut merged = false;
        self.visit_slots(|_, slot| merged |= !slot.state().merged.is_empty());
        merged
    }

    /// Merges the active adapters into the weights, so that they cost nothing at run time.
    ///
    /// The original weights are kept for [`unmerge_adapter`](Self::unmerge_adapter). With
    /// `safe_merge`, merged weights have to be finite. The weights of a quantised base are
    /// quantised again, as in PEFT, which rounds the result; merge into the full-precision base to
    /// avoid that.
    ///
    /// # Errors
    /// If a method cannot be merged, or a merged weight is not finite; nothing is merged then.
    pub fn merge_adapter(&mut self, safe_merge: bool) -> Result<()> {
        self.check_mergeable()?;
        let mut quantized = false;
        self.visit_slots(|_, slot| quantized |= slot.is_quantized());
        if quantized {
            tracing::warn!(
                "the base is quantised: merged weights are rounded to codes again, which changes \
                 what the model says; merge into the full-precision base instead (peft merge)"
            );
        }
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

    /// Rejects active adapters that act at the model instead of on weights. Whether a method can be
    /// merged into a layer is checked when it is merged there.
    ///
    /// # Errors
    /// If there is such an adapter.
    pub fn check_mergeable(&self) -> Result<()> {
        let mut active = self.active.iter();
        let Some(name) = active.find(|name| self.model_adapter(name).is_some()) else {
            return Ok(());
        };
        Err(PeftError::NotMergeable {
            adapter: name.clone(),
            problem: format!(
                ": {} acts at the model, not at its weights",
                self.config(name)?.peft_type()
            ),
        })
    }

    /// Removes merged adapters from the weights, which are restored bit for bit.
    pub fn unmerge_adapter(&mut self) {
        self.visit_slots_mut(|_, slot| slot.unmerge());
    }

    /// The plain model with the active adapters merged. An output layer that shares the weight of
    /// the input embedding gets its own if adapters act only on the embedding.
    ///
    /// # Errors
    /// As [`merge_adapter`](Self::merge_adapter), and if the model cannot untie such an output layer.
    pub fn merge_and_unload(mut self, safe_merge: bool) -> Result<M> {
        self.merge_adapter(safe_merge)?;
        let tied = tied_weight(&self.base_model);
        self.visit_slots_mut(|_, slot| slot.unload(true));
        if let Some(tied) = tied {
            keep_output(&mut self.base_model, tied)?;
        }
        Ok(self.base_model)
    }

    /// The plain model without any adapter.
    pub fn unload(mut self) -> M {
        self.unmerge_adapter();
        self.visit_slots_mut(|_, slot| slot.unload(false));
        self.base_model
    }
}
