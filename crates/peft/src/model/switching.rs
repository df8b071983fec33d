//! Which adapters are active and which are trained.

use crate::config::Bias;
use crate::{BaseModel, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Makes these adapters the active ones, in this order, and the only trainable ones.
    ///
    /// # Errors
    /// If there is no adapter with one of these names, or several of them act at the model, where
    /// only one can.
    pub fn set_adapter(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            self.config(name)?;
        }
        let at_model: Vec<&str> = (names.iter().copied())
            .filter(|name| self.model_adapter(name).is_some())
            .collect();
        if at_model.len() > 1 {
            return Err(PeftError::AtModel {
                problem: format!(
                    "the adapters {} act at the model, each before the text, and only one \
                     of them can be active: choose one",
                    at_model.join(" and ")
                ),
                names: at_model.into_iter().map(str::to_string).collect(),
            });
        }
        self.unmerge_adapter();
        self.active = names.iter().map(|name| name.to_string()).collect();
        let active = self.active.clone();
        self.visit_slots_mut(|_, slot| slot.state_mut().active = active.clone());
        let all: Vec<String> = self.peft_config.keys().cloned().collect();
        for name in all.iter().filter(|name| !active.contains(name)) {
            self.set_requires_grad(name, false);
        }
        for name in &active {
            self.set_requires_grad(name, true);
        }
        Ok(())
    }

    /// Trains or freezes everything that belongs to an adapter: its tensors, its copies of layers,
    /// and the base's biases if its configuration says so.
    pub fn set_requires_grad(&mut self, adapter_name: &str, requires_grad: bool) {
        let bias = self.config(adapter_name).ok().map(|config| config.bias());
        for adapter in &mut self.model_adapters {
            if adapter.name == adapter_name {
                adapter.set_requires_grad(requires_grad);
            }
        }
        self.visit_slots_mut(|_, slot| {
            let adapter = slot.adapter_mut(adapter_name);
            let adapted = adapter.is_some();
            if let Some(adapter) = adapter {
                adapter.set_requires_grad(requires_grad);
            }
            slot.visit_saved_mut(adapter_name, &mut |_, param| {
                param.set_requires_grad(requires_grad);
            });
            // If a layer has a copy, the copy's bias is trained.
            let trains_all = bias == Some(Bias::All) && !slot.has_saved(adapter_name);
            if trains_all || (bias == Some(Bias::LoraOnly) && adapted) {
                slot.visit_base_mut(&mut |name, param| {
                    if name == "bias" {
                        param.set_requires_grad(requires_grad);
                    }
                });
            }
        });
        // Now each layer has a separate tensor, even if all should share one.
        self.share_tensors(adapter_name);
    }

    /// Runs `inside` with all adapters switched off.
    ///
    /// It gets a copy that shares the weights, so the model itself cannot be left switched off,
    /// whatever happens inside. Trained biases (`bias` other than `none`) stay trained, as in PEFT.
    pub fn disable_adapter<T>(&self, inside: impl FnOnce(&Self) -> T) -> T {
        let mut without = self.clone();
        without.disable_adapter_layers();
        inside(&without)
    }

    /// Switches all adapters off; merged ones are removed from the weights.
    pub fn disable_adapter_layers(&mut self) {
        self.unmerge_adapter();
        self.disabled = true;
        self.visit_slots_mut(|_, slot| slot.state_mut().disabled = true);
    }

    /// Switches the active adapters on again.
    pub fn enable_adapter_layers(&mut self) {
        self.disabled = false;
        self.visit_slots_mut(|_, slot| slot.state_mut().disabled = false);
    }

    /// Removes an adapter. If it was the active one, the first of the others becomes active.
    ///
    /// # Errors
    /// If there is no adapter of this name.
    pub fn delete_adapter(&mut self, adapter_name: &str) -> Result<()> {
        self.config(adapter_name)?;
        self.unmerge_adapter();
        self.visit_slots_mut(|_, slot| slot.remove(adapter_name));
        self.model_adapters
            .retain(|adapter| adapter.name != adapter_name);
        self.peft_config.shift_remove(adapter_name);
        self.active.retain(|name| name != adapter_name);
        if self.active.is_empty()
            && let Some(first) = self.peft_config.keys().next().cloned()
        {
            self.set_adapter(&[&first])?;
        }
        Ok(())
    }
}
