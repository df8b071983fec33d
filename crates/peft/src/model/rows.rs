//! A batch whose rows use different adapters (PEFT's `adapter_names`).

use std::sync::Arc;

use crate::{BASE_ROW, BaseModel, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// The model for a batch whose rows use the adapters with these names, [`BASE_ROW`] for none,
    /// in one forward pass. It shares the weights with this one.
    ///
    /// Every layer has to be called with the positions of all rows, row after row; the models of
    /// this project do so in `forward_rows`.
    ///
    /// # Errors
    /// If there is no adapter with one of the names, if one acts at the model, or if adapters are
    /// merged or hold a part of the weights.
    pub fn for_rows(&self, adapter_names: &[&str]) -> Result<Self> {
        for name in adapter_names.iter().filter(|name| **name != BASE_ROW) {
            let config = self.config(name)?;
            if self.model_adapter(name).is_some() {
                return Err(PeftError::AtModel {
                    names: vec![name.to_string()],
                    problem: format!(
                        "the adapter `{name}` cannot be used for single rows: {} acts at \
                         the model, and its positions would be every row's",
                        config.peft_type()
                    ),
                });
            }
        }
        if self.is_merged() {
            return Err(PeftError::Merged {
                problem: "adapters are merged into the weights, which all rows share: \
                          unmerge_adapter first"
                    .into(),
            });
        }
        if self.holds_weights() {
            return Err(PeftError::HoldsWeight {
                problem: "an adapter holds a part of the weights (its initialisation took it), \
                          which rows without it would lack: convert_to_lora makes one that does not"
                    .into(),
            });
        }
        let names: Arc<[String]> = adapter_names.iter().map(ToString::to_string).collect();
        let mut model = self.clone();
        model
            .active
            .retain(|name| self.model_adapter(name).is_none());
        model.visit_slots_mut(|_, slot| slot.state_mut().rows = Some(Arc::clone(&names)));
        Ok(model)
    }
}
