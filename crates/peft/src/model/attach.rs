//! Attaching a new adapter: adding its tensors to the layers that its configuration names.

use std::borrow::Cow;
use std::sync::Arc;

use burn::tensor::Tensor;
use indexmap::IndexMap;

use crate::config::{Bias, CommonConfig, LAYER_KEYS};
use crate::{
    Adapter, AdapterTensor, BaseModel, Frozen, LayerInfo, LayerKind, LayerMethod, Method,
    PeftError, PeftModel, Result, TensorSpec, target,
};

/// A key that the method's file does not have would be lost when the adapter is saved.
fn check_layer_keys(config: &dyn Method) -> Result<()> {
    let peft_type = config.peft_type();
    let (given, written) = (config.common().to_json(peft_type), config.to_json());
    let is_lost = |key: &&str| !given[*key].is_null() && !written.contains_key(*key);
    let mut keys = LAYER_KEYS.into_iter().chain(["modules_to_save"]);
    match keys.find(is_lost) {
        None => Ok(()),
        Some(key) => Err(PeftError::value(
            key,
            &given[key],
            format!("{peft_type} has no such key, in PEFT neither: leave it out"),
        )),
    }
}

/// The configuration with the heads of its task added to the modules to save, as in PEFT; unchanged
/// for a method without that key.
fn with_heads(config: Arc<dyn Method>) -> Result<Arc<dyn Method>> {
    let Some(task) = config
        .common()
        .task_type
        .filter(|task| !task.heads().is_empty())
    else {
        return Ok(config);
    };
    if config.at_model().is_some() {
        let reason = format!(
            "{} is supported beside \"CAUSAL_LM\" only: choose a method that acts at layers, such as LORA",
            config.peft_type()
        );
        return Err(PeftError::value("task_type", task, reason));
    }
    if !config.to_json().contains_key("modules_to_save") {
        return Ok(config);
    }
    Ok(config.with_common(config.common().with_heads()))
}

impl<M: BaseModel> PeftModel<M> {
    /// Adds another adapter, which is not active yet.
    ///
    /// # Errors
    /// If the name is taken or invalid, or the configuration is invalid or matches no layer. The
    /// model is then unchanged.
    pub fn add_adapter(&mut self, adapter_name: &str, config: Arc<dyn Method>) -> Result<()> {
        self.add_adapter_within(adapter_name, config, usize::MAX)
    }

    /// As [`add_adapter`](Self::add_adapter), for a file with this many numbers: a configuration
    /// that needs more is rejected before its tensors are created.
    pub(crate) fn add_adapter_within(
        &mut self,
        adapter_name: &str,
        config: Arc<dyn Method>,
        numbers: usize,
    ) -> Result<()> {
        self.check_new_name(adapter_name)?;
        let config = with_heads(config)?;
        config.validate()?;
        check_layer_keys(config.as_ref())?;
        if config.bias() != Bias::None
            && let Some((other, _)) = self
                .peft_config
                .iter()
                .find(|(_, c)| c.bias() != Bias::None)
        {
            return Err(PeftError::BiasTaken {
                adapter: other.clone(),
            });
        }
        if let Some(config) = config.at_model() {
            return self.add_model_adapter(adapter_name, config, numbers);
        }
        let (config, untied) = self.tie_or_untie(config)?;
        let added = self.add_layer_adapter(adapter_name, config, numbers);
        if let (Err(_), Some(before)) = (&added, untied) {
            self.base_model = before;
        }
        added
    }

    fn add_layer_adapter(
        &mut self,
        adapter_name: &str,
        config: Arc<dyn Method>,
        mut numbers: usize,
    ) -> Result<()> {
        let layers = self.layers();
        let model_type = self.base_model.model_type();
        let config = config.prepared(model_type, &layers)?.unwrap_or(config);
        let targets = target::target_layers(config.common(), &layers, config.as_ref(), model_type)?;
        target::warn_unused_patterns(&config.to_json(), &targets.paths)?;
        let further = config.further_layers(&layers)?;
        let weights = layers.iter().filter(|l| l.kind != LayerKind::Module);
        let paths: Vec<String> = weights.map(|layer| layer.path.clone()).collect();
        let mut adapted = targets.paths.clone();
        for (path, _) in &further {
            if adapted.contains(path) {
                return Err(PeftError::AdaptedTwice {
                    layer: path.clone(),
                });
            }
            adapted.push(path.clone());
        }
        let to_save = target::modules_to_save(config.common(), &paths, &adapted)?;

        // First everything that can fail, then the change.
        let mut methods: IndexMap<&str, Arc<dyn LayerMethod>> = IndexMap::new();
        let targeted = layers
            .iter()
            .filter(|layer| targets.paths.contains(&layer.path));
        let targeted: Vec<&LayerInfo> = targeted.collect();
        for (tensor, shape) in config.shared_in_file(&targeted) {
            let needed = shape
                .iter()
                .fold(1_usize, |n, &side| n.saturating_mul(side));
            if needed > numbers {
                let layer = targeted.first().map(|layer| layer.path.clone());
                return Err(PeftError::TooSmall {
                    layer: layer.unwrap_or_default(),
                    tensor: tensor.to_string(),
                    shape,
                });
            }
        }
        for (layer, method) in targeted.iter().zip(config.layers(&targeted)?) {
            methods.insert(&layer.path, method);
        }
        for (path, method) in &further {
            methods.insert(path, Arc::clone(method));
        }
        let mut adapters = IndexMap::new();
        let mut weights: IndexMap<String, Tensor<2>> = IndexMap::new();
        let mut failed = None;
        self.visit_slots(|path, slot| {
            if let (Some(method), None) = (methods.get(path), &failed) {
                let method = Arc::clone(method);
                let layer = Frozen {
                    weight: &|| slot.weight(),
                    bias: &|| slot.bias(),
                };
                let device = slot.device();
                let specs = method.tensors(&layer);
                let adapter = spend(&mut numbers, path, &specs).and_then(|()| {
                    Adapter::with_tensors(adapter_name, method, specs, &layer, &device)
                });
                match adapter {
                    Ok((adapter, weight)) => {
                        adapters.insert(path.to_string(), adapter);
                        weights.extend(weight.map(|weight| (path.to_string(), weight)));
                    }
                    Err(error) => failed = Some(error),
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        share(adapters.values_mut());
        let is_input = |path: &str| {
            layers
                .iter()
                .any(|layer| layer.is_input && layer.path == path)
        };
        self.visit_slots_mut(|path, slot| {
            if let Some(adapter) = adapters.swap_remove(path) {
                if let Some(weight) = weights.swap_remove(path) {
                    let before = (adapter_name.to_string(), slot.weight());
                    slot.set_weight(weight);
                    slot.state_mut().originals.push(before);
                }
                slot.adapters_mut().push(adapter);
            }
            if to_save.iter().any(|saved| saved == path) {
                slot.add_saved(adapter_name);
                if config.ensure_weight_tying() && is_input(path) {
                    slot.state_mut().tied.push(adapter_name.to_string());
                }
            }
        });
        let common = CommonConfig {
            target_modules: Some(targets.target_modules),
            ..config.common().clone()
        };
        let config = config.attached(common, &targeted);
        self.peft_config.insert(adapter_name.to_string(), config);
        self.set_requires_grad(adapter_name, false);
        Ok(())
    }

    /// Makes all layers share the first layer's tensor again after it was loaded.
    pub(crate) fn share_tensors(&mut self, adapter_name: &str) {
        let mut adapters = Vec::new();
        self.visit_slots(|_, slot| adapters.extend(slot.adapter(adapter_name).cloned()));
        share(adapters.iter_mut());
        let mut shared = adapters.into_iter();
        self.visit_slots_mut(|_, slot| {
            if let Some(adapter) = slot.adapter_mut(adapter_name)
                && let Some(other) = shared.next()
            {
                *adapter = other;
            }
        });
    }

    fn check_new_name(&self, name: &str) -> Result<()> {
        if self.peft_config.contains_key(name) {
            return Err(PeftError::NameTaken {
                name: name.to_string(),
            });
        }
        if name.is_empty() || name.contains(['.', '/', '\\']) {
            return Err(PeftError::BadName {
                name: name.to_string(),
            });
        }
        Ok(())
    }
}

/// Subtracts the numbers that a layer's saved tensors need from those that the file has.
pub(crate) fn spend(numbers: &mut usize, path: &str, specs: &[TensorSpec]) -> Result<()> {
    for spec in specs.iter().filter(|spec| spec.saved && !spec.shared) {
        let sides = spec.shape.iter();
        let needed = sides.fold(1_usize, |needed, &side| needed.saturating_mul(side));
        *numbers = numbers
            .checked_sub(needed)
            .ok_or_else(|| PeftError::TooSmall {
                layer: path.to_string(),
                tensor: spec.key.to_string(),
                shape: spec.shape.clone(),
            })?;
    }
    Ok(())
}

/// Makes every layer of an adapter share the first layer's tensor, if all share one.
pub(crate) fn share<'a>(adapters: impl Iterator<Item = &'a mut Adapter>) {
    let mut first: IndexMap<Cow<'static, str>, AdapterTensor> = IndexMap::new();
    for adapter in adapters {
        for tensor in &mut adapter.tensors {
            if tensor.spec.shared {
                match first.get(&tensor.spec.name) {
                    Some(shared) => *tensor = shared.follower(),
                    None => drop(first.insert(tensor.spec.name.clone(), tensor.clone())),
                }
            }
        }
    }
}
