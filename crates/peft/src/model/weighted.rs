//! Adding an adapter that combines others of the model (PEFT's `add_weighted_adapter`).

use std::path::Path;
use std::sync::Arc;

use crate::combine::{Combination, WeightedAdapter, combine};
use crate::{BaseModel, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Adds an adapter that combines other adapters of the model, those of LoRA or, by their
    /// weighted sum, those of (IA)³; it is not active yet.
    ///
    /// # Errors
    /// As [`combine`]; if there is no adapter with one of the names, or already one with the new
    /// name. The model is then unchanged.
    pub fn add_weighted_adapter(
        &mut self,
        adapters: &[(&str, f64)],
        adapter_name: &str,
        combination: &Combination,
    ) -> Result<()> {
        let mut parts = Vec::new();
        for &(name, weight) in adapters {
            parts.push(WeightedAdapter {
                name: name.to_string(),
                config: Arc::clone(self.config(name)?),
                tensors: self.adapter_state_dict(name).into_iter().collect(),
                weight,
            });
        }
        let combined = combine(parts, combination)?;
        self.add_adapter(adapter_name, combined.config)?;
        let tensors = combined.tensors.into_iter().collect();
        let loaded = self.load_state_dict(adapter_name, tensors, Path::new(adapter_name));
        if loaded.is_err() {
            self.delete_adapter(adapter_name)?;
        }
        loaded
    }
}
