//! What methods do around training steps: a term added to the loss, and a hook after each optimizer
//! step.

use std::collections::HashMap;
use std::path::Path;

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::files::tensor_file::{read_tensors, write_tensors};
use crate::files::{STEP_STATE_NAME, read_config};
use crate::{Adapter, BaseModel, PeftError, PeftModel, Result, StepGradients, StepLayer, Tensors};

impl<M: BaseModel> PeftModel<M> {
    /// The term that the active adapters' methods add to the mean loss in training, `[1]`, such as
    /// AdaLoRA's penalty.
    pub fn regularizer(&self) -> Option<Tensor<1>> {
        let mut sum: Option<Tensor<1>> = None;
        for name in &self.active {
            let Some(steps) = self.peft_config[name].steps() else {
                continue;
            };
            let mut adapters: Vec<Adapter> = Vec::new();
            self.visit_slots(|_, slot| adapters.extend(slot.adapter(name).cloned()));
            let tensors: Vec<Tensors<'_>> = adapters.iter().map(Adapter::tensors).collect();
            if let Some(term) = steps.regularizer(&tensors) {
                sum = Some(match sum {
                    Some(sum) => sum + term,
                    None => term,
                });
            }
        }
        sum
    }

    fn stepped(&self) -> Vec<String> {
        let names = self.active.iter();
        let names = names.filter(|name| self.peft_config[*name].steps().is_some());
        names.cloned().collect()
    }

    /// The gradients that [`after_step`](Self::after_step) needs, taken before an optimizer
    /// consumes them; empty if no active adapter uses them.
    pub fn step_gradients(&self, gradients: &GradientsParams) -> StepGradients {
        let mut found = StepGradients::default();
        for name in self.stepped() {
            self.visit_slots(|_, slot| {
                for tensor in slot
                    .adapter(&name)
                    .iter()
                    .flat_map(|adapter| &adapter.tensors)
                {
                    if let Some(gradient) = tensor.value.gradient_of(gradients) {
                        let gradient = gradient.without_autodiff();
                        found.0.insert(tensor.param().id(), gradient);
                    }
                }
            });
        }
        found
    }

    /// Calls the active adapters' methods after optimizer step `step` (counted from 1), as PEFT's
    /// `update_and_allocate` does for AdaLoRA.
    pub fn after_step(&mut self, step: usize, gradients: &StepGradients) {
        for name in self.stepped() {
            let mut layers = Vec::new();
            self.visit_slots_mut(|path, slot| {
                layers.extend(slot.adapter_mut(&name).map(|adapter| StepLayer {
                    path: path.to_string(),
                    tensors: std::mem::take(&mut adapter.tensors),
                    gradients,
                }));
            });
            let steps = self.peft_config[&name].steps();
            let changed = steps.and_then(|steps| steps.after_step(step, &mut layers));
            let mut layers = layers.into_iter();
            self.visit_slots_mut(|_, slot| {
                if let Some(adapter) = slot.adapter_mut(&name)
                    && let Some(layer) = layers.next()
                {
                    adapter.tensors = layer.tensors;
                }
            });
            if let Some(config) = changed {
                self.peft_config.insert(name, config);
            }
        }
    }

    /// Writes into a checkpoint what [`save_pretrained`](Self::save_pretrained) leaves out of
    /// adapters with such a hook; writes nothing if there are none.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_step_state(&self, directory: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for name in self.stepped() {
            self.visit_slots(|path, slot| {
                for tensor in slot
                    .adapter(&name)
                    .iter()
                    .flat_map(|adapter| &adapter.tensors)
                {
                    let key = format!("{name}.{path}.{}", tensor.spec.name);
                    tensors.push((key, tensor.param().to_data().convert::<f32>()));
                }
            });
        }
        if tensors.is_empty() {
            Ok(())
        } else {
            write_tensors(&directory.join(STEP_STATE_NAME), tensors)
        }
    }

    /// Restores one adapter, and what its configuration has learnt, from what
    /// [`save_step_state`](Self::save_step_state) has written. Returns false if `directory` holds
    /// no such file.
    pub(crate) fn restore_step_state(
        &mut self,
        adapter_name: &str,
        directory: &Path,
        folder: &Path,
    ) -> Result<bool> {
        let path = directory.join(STEP_STATE_NAME);
        if self.config(adapter_name)?.steps().is_none() || !path.is_file() {
            return Ok(false);
        }
        let config = read_config(folder)?;
        let mut tensors = read_tensors(&path)?;
        let mut found: HashMap<ParamId, TensorData> = HashMap::new();
        let mut wrong = None;
        self.visit_slots(|layer, slot| {
            for tensor in slot
                .adapter(adapter_name)
                .iter()
                .flat_map(|adapter| &adapter.tensors)
            {
                let key = format!("{adapter_name}.{layer}.{}", tensor.spec.name);
                match tensors.swap_remove(&key) {
                    Some(data) if data.shape().to_vec() == tensor.param().dims() => {
                        found.insert(tensor.param().id(), data);
                    }
                    _ => wrong = Some(key),
                }
            }
        });
        if let Some(key) = wrong {
            let reason = format!("{key} is missing, or of another shape than the model's");
            return Err(PeftError::file(&path, reason));
        }
        self.visit_slots_mut(|_, slot| {
            let adapter = slot.adapter_mut(adapter_name);
            for tensor in adapter.into_iter().flat_map(|adapter| &mut adapter.tensors) {
                let id = tensor.param().id();
                if let Some(data) = found.remove(&id) {
                    tensor.param_mut().set_data(data, false);
                }
            }
        });
        self.peft_config.insert(adapter_name.to_string(), config);
        Ok(true)
    }
}
