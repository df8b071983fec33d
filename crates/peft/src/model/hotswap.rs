//! Replacing an adapter's values by those of a saved one.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::files::{read_config, read_weights};
use crate::{BaseModel, LayerInfo, LayerMethod, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Replaces the values of one of the model's adapters by those of a saved adapter, without
    /// rebuilding anything (PEFT's `hotswap_adapter`): parameters keep their identities, and what
    /// is active and trained stays so. The scaling and everything else about the method are taken
    /// from the saved adapter.
    ///
    /// # Errors
    /// If there is no adapter with this name, or it is merged; if the saved adapter has another
    /// method, layers or rank; if one of them took a part of the weights (PiSSA, OLoRA, LoftQ) and
    /// their configurations differ, in which case [`load_adapter`](Self::load_adapter) replaces it.
    /// The model is then unchanged.
    pub fn hotswap_adapter(
        &mut self,
        directory: impl AsRef<Path>,
        adapter_name: &str,
    ) -> Result<()> {
        let directory = directory.as_ref();
        let old = Arc::clone(self.config(adapter_name)?);
        let new = read_config(directory)?;
        let mut common = new.common().clone();
        common.inference_mode = old.common().inference_mode;
        let new = new.with_common(common);
        if new.peft_type() != old.peft_type() {
            let reason = format!(
                "the adapter is of peft_type {:?}, `{adapter_name}` of {:?}: load_adapter replaces \
                 it",
                new.peft_type(),
                old.peft_type()
            );
            return Err(PeftError::file(directory, reason));
        }
        let mut merged = false;
        self.visit_slots(|_, slot| {
            merged |= slot.state().merged.iter().any(|name| name == adapter_name);
        });
        if merged {
            return Err(PeftError::Merged {
                problem: format!(
                    "the adapter `{adapter_name}` is merged into the weights: unmerge it first"
                ),
            });
        }
        let layers: Vec<LayerInfo> = self.layers();
        let model_type = self.base_model.model_type();
        let new = new.prepared(model_type, &layers)?.unwrap_or(new);
        let mut methods: IndexMap<String, Arc<dyn LayerMethod>> =
            new.further_layers(&layers)?.into_iter().collect();
        let mut adapted: Vec<&LayerInfo> = Vec::new();
        self.visit_slots(|path, slot| {
            if slot.adapter(adapter_name).is_some() && !methods.contains_key(path) {
                adapted.extend(layers.iter().find(|layer| layer.path == path));
            }
        });
        if self.model_adapter(adapter_name).is_none() {
            for (layer, method) in adapted.iter().zip(new.layers(&adapted)?) {
                methods.insert(layer.path.clone(), method);
            }
        }
        // Two adapters with the same configuration have taken the same part of the weights.
        if new.with_common(old.common().clone()).to_json() != old.to_json() {
            self.check_residuals(adapter_name, &methods)?;
        }
        let (config, at_model) = match new.at_model() {
            Some(new) => {
                let (config, adapter) = self.new_model_adapter(adapter_name, new, usize::MAX)?;
                (config, Some(adapter.method))
            }
            None => (new.attached(new.common().clone(), &adapted), None),
        };

        let tensors = read_weights(directory)?;
        self.load_state_dict(adapter_name, tensors, directory)?;
        self.visit_slots_mut(|path, slot| {
            if let Some(adapter) = slot.adapter_mut(adapter_name)
                && let Some(method) = methods.swap_remove(path)
            {
                adapter.method = method;
            }
        });
        for adapter in &mut self.model_adapters {
            if let (true, Some(method)) = (adapter.name == adapter_name, &at_model) {
                adapter.method = Arc::clone(method);
            }
        }
        self.peft_config.insert(adapter_name.to_string(), config);
        Ok(())
    }

    /// Whether neither the adapter nor its replacement has taken a part of the weights.
    fn check_residuals(
        &self,
        adapter_name: &str,
        methods: &IndexMap<String, Arc<dyn LayerMethod>>,
    ) -> Result<()> {
        let mut taken = false;
        self.visit_slots(|path, slot| {
            let mut originals = slot.state().originals.iter();
            taken |= originals.any(|(name, _)| name == adapter_name);
            taken |= methods
                .get(path)
                .is_some_and(|method| method.takes_weight());
        });
        if taken {
            Err(PeftError::HoldsWeight {
                problem: format!(
                    "the adapter `{adapter_name}`, or what would replace it, holds a part \
                     of the weights (its initialisation took it): load_adapter replaces it"
                ),
            })
        } else {
            Ok(())
        }
    }
}
