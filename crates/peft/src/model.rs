//! A model with adapters: what `get_peft_model` returns.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor, TensorData};
use burn_peft_kernels::Quantization;
use indexmap::IndexMap;

use crate::config::{Bias, CommonConfig};
use crate::model_adapter::ModelAdapter;
use crate::{
    Adaptable, Adapter, AdapterTensor, BaseModel, Frozen, LayerInfo, LayerKind, LayerMethod,
    Method, Path, PeftError, Result, Slot, target,
};

/// The name of an adapter that was given none.
pub const DEFAULT_ADAPTER: &str = "default";

/// Wraps a model so that only the adapter that `config` describes is trained.
///
/// # Errors
/// If the configuration cannot be used, matches no layer of the model, or if the model already
/// holds adapters (`unload` them, or use [`PeftModel::add_adapter`]).
///
/// ```
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// # use burn_peft::{Adaptable, LoraAdapter, config::LoraConfig, get_peft_model};
/// #[derive(Module, Adaptable, Debug)]
/// struct Net {
///     fc1: LoraAdapter<Linear>,
///     fc2: LoraAdapter<Linear>,
/// }
/// # let device = Device::flex();
/// let net = Net {
///     fc1: LoraAdapter::new(LinearConfig::new(10, 20).init(&device)),
///     fc2: LoraAdapter::new(LinearConfig::new(20, 5).init(&device)),
/// };
/// let config = LoraConfig::new().with_r(4).with_target_modules(["fc1", "fc2"]);
/// let model = get_peft_model(net, config)?;
/// assert_eq!(model.get_nb_trainable_parameters(), (220, 545));
/// # Ok::<(), burn_peft::PeftError>(())
/// ```
pub fn get_peft_model<M: BaseModel>(
    model: M,
    config: impl Method + 'static,
) -> Result<PeftModel<M>> {
    PeftModel::new(model, DEFAULT_ADAPTER, Arc::new(config))
}

/// A model whose own weights are frozen, with adapters in its slots.
///
/// It dereferences to the model, so `peft_model.forward(…)` is the model's. It is no
/// [`Adaptable`] itself: wrapping it a second time does not compile.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct PeftModel<M: Module> {
    pub(crate) base_model: M,
    /// The adapters that act at the model and not at its layers.
    pub(crate) model_adapters: Vec<ModelAdapter>,
    #[module(skip)]
    pub(crate) peft_config: IndexMap<String, Arc<dyn Method>>,
    #[module(skip)]
    pub(crate) active: Vec<String>,
    #[module(skip)]
    pub(crate) disabled: bool,
}

impl<M: Module> Deref for PeftModel<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.base_model
    }
}

impl<M: BaseModel> PeftModel<M> {
    /// Wraps a model with an adapter of the given name, which is active and trainable.
    ///
    /// # Errors
    /// As [`get_peft_model`].
    pub fn new(model: M, adapter_name: &str, config: Arc<dyn Method>) -> Result<Self> {
        let mut wrapped = Vec::new();
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            if !slot.adapters().is_empty() || !slot.state().saved.is_empty() {
                wrapped.push(path.to_string());
            }
        });
        if let Some(path) = wrapped.first() {
            return Err(PeftError::Adapter(format!(
                "the model already holds adapters (first at {path}): unload them, or add one \
                 more with PeftModel::add_adapter"
            )));
        }
        let mut peft_model = Self {
            base_model: model.no_grad(),
            model_adapters: Vec::new(),
            peft_config: IndexMap::new(),
            active: Vec::new(),
            disabled: false,
        };
        peft_model.visit_slots_mut(|path, slot| slot.state_mut().path = path.to_string());
        peft_model.add_adapter(adapter_name, config)?;
        peft_model.set_adapter(&[adapter_name])?;
        Ok(peft_model)
    }

    /// Adds a further adapter, which is not active yet.
    ///
    /// # Errors
    /// If the name is taken or unusable, or if the configuration cannot be used or matches no
    /// layer. The model is as before.
    pub fn add_adapter(&mut self, adapter_name: &str, config: Arc<dyn Method>) -> Result<()> {
        self.check_new_name(adapter_name)?;
        config.validate()?;
        if config.bias() != Bias::None
            && let Some((other, _)) = self
                .peft_config
                .iter()
                .find(|(_, c)| c.bias() != Bias::None)
        {
            return Err(PeftError::Config(format!(
                "the adapter `{other}` already trains the base's biases: of several adapters \
                 only one can have bias other than \"none\""
            )));
        }
        if config.acts_at_model() {
            return self.add_model_adapter(adapter_name, config.as_ref());
        }
        let (config, untied) = self.tie_or_untie(config)?;
        let added = self.add_layer_adapter(adapter_name, config);
        if let (Err(_), Some(before)) = (&added, untied) {
            self.base_model = before;
        }
        added
    }

    fn add_layer_adapter(&mut self, adapter_name: &str, config: Arc<dyn Method>) -> Result<()> {
        let layers = self.layers();
        let model_type = self.base_model.model_type();
        let config = config.prepared(model_type, &layers)?.unwrap_or(config);
        let targets = target::target_layers(config.common(), &layers, config.as_ref(), model_type)?;
        let further = config.further_layers(&layers)?;
        let weights = layers.iter().filter(|l| l.kind != LayerKind::Module);
        let paths: Vec<String> = weights.map(|layer| layer.path.clone()).collect();
        let mut adapted = targets.paths.clone();
        for (path, _) in &further {
            if adapted.contains(path) {
                return Err(PeftError::Target(format!(
                    "{path} would get two adapters of one name, one by target_modules and one by \
                     another key: choose one"
                )));
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
            if let Some(method) = methods.get(path) {
                let method = Arc::clone(method);
                let layer = Frozen {
                    weight: &|| slot.weight(),
                    bias: &|| slot.bias(),
                };
                let device = slot.device();
                match Adapter::new(adapter_name, method, &layer, &device) {
                    Ok((adapter, weight)) => {
                        adapters.insert(path.to_string(), adapter);
                        weights.extend(weight.map(|weight| (path.to_string(), weight)));
                    }
                    Err(error) => failed = Some(failed.take().unwrap_or(error)),
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

    fn check_new_name(&self, name: &str) -> Result<()> {
        if self.peft_config.contains_key(name) {
            return Err(PeftError::Adapter(format!(
                "there is an adapter `{name}` already: delete_adapter it, or take another name"
            )));
        }
        if name.is_empty() || name.contains(['.', '/', '\\']) {
            return Err(PeftError::Adapter(format!(
                "the adapter name {name:?} is not usable: it becomes part of parameter names and \
                 a folder, so it has to be non-empty and without dots and slashes"
            )));
        }
        Ok(())
    }

    /// Makes these adapters the active ones, in this order, and the only trainable ones.
    ///
    /// # Errors
    /// If there is no adapter of one of these names, or if several of them act at the model:
    /// there only one can.
    pub fn set_adapter(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            self.config(name)?;
        }
        let at_model: Vec<&str> = (names.iter().copied())
            .filter(|name| self.model_adapter(name).is_some())
            .collect();
        if at_model.len() > 1 {
            return Err(PeftError::Adapter(format!(
                "the adapters {} act at the model, each before the text, and only one of them can \
                 be active: choose one",
                at_model.join(" and ")
            )));
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

    /// Trains or freezes everything that belongs to an adapter: its tensors, its copies of
    /// layers, and the base's biases where its configuration says so.
    pub fn set_requires_grad(&mut self, adapter_name: &str, requires_grad: bool) {
        let bias = self
            .peft_config
            .get(adapter_name)
            .map(|config| config.bias());
        for adapter in &mut self.model_adapters {
            if adapter.name == adapter_name {
                adapter.set_requires_grad(requires_grad);
            }
        }
        self.visit_slots_mut(|_, slot| {
            let mut adapted = false;
            for adapter in slot.adapters_mut() {
                if adapter.name == adapter_name {
                    adapter.set_requires_grad(requires_grad);
                    adapted = true;
                }
            }
            slot.visit_saved_mut(adapter_name, &mut |_, param| {
                param.set_requires_grad(requires_grad);
            });
            if bias == Some(Bias::All) || (bias == Some(Bias::LoraOnly) && adapted) {
                slot.visit_base_mut(&mut |name, param| {
                    if name == "bias" {
                        param.set_requires_grad(requires_grad);
                    }
                });
            }
        });
        // Each layer has made its own of a tensor that all share.
        self.share_tensors(adapter_name);
    }

    /// The names of the active adapters.
    pub fn active_adapters(&self) -> &[String] {
        &self.active
    }

    /// The configurations of all adapters, by name.
    pub fn peft_config(&self) -> &IndexMap<String, Arc<dyn Method>> {
        &self.peft_config
    }

    /// Changes the keys that are no part of the maths, such as `base_model_name_or_path`.
    ///
    /// # Errors
    /// If there is no adapter of this name.
    pub fn update_config(
        &mut self,
        adapter_name: &str,
        change: impl FnOnce(&mut CommonConfig),
    ) -> Result<()> {
        let config = self.config(adapter_name)?;
        let mut common = config.common().clone();
        change(&mut common);
        let config = config.with_common(common);
        self.peft_config.insert(adapter_name.to_string(), config);
        Ok(())
    }

    /// The configuration of one adapter.
    ///
    /// # Errors
    /// If there is no adapter of this name; the error lists those there are.
    pub fn config(&self, adapter_name: &str) -> Result<&Arc<dyn Method>> {
        self.peft_config.get(adapter_name).ok_or_else(|| {
            let names: Vec<&str> = self.peft_config.keys().map(String::as_str).collect();
            PeftError::Adapter(format!(
                "there is no adapter `{adapter_name}`; the model has {}",
                names.join(", ")
            ))
        })
    }

    /// Runs `inside` with all adapters switched off.
    ///
    /// It sees a copy that shares the weights, so the model itself cannot be left switched off,
    /// whatever happens inside. Biases that were trained (`bias` other than `none`) stay trained,
    /// as in PEFT.
    pub fn disable_adapter<T>(&self, inside: impl FnOnce(&Self) -> T) -> T {
        let mut without = self.clone();
        without.disable_adapter_layers();
        inside(&without)
    }

    /// Switches all adapters off; merged ones are taken out of the weights.
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

    /// The values of one tensor of an adapter at the layer `path`, by the method's own name for
    /// it; nothing where there is none.
    pub fn adapter_tensor(&self, path: &str, adapter: &str, name: &str) -> Option<TensorData> {
        let mut found = None;
        self.visit_slots(|slot_path, slot| {
            if slot_path == path
                && let Some(adapter) = slot.adapter(adapter)
            {
                let tensors = adapter.tensors();
                let mut tensors = tensors.iter();
                let tensor = tensors.find(|tensor| tensor.spec().name == name);
                found = tensor.map(|tensor| tensor.param().to_data());
            }
        });
        found
    }

    /// Keeps the frozen base in `dtype`; see [`cast_frozen`](crate::cast_frozen).
    pub fn cast_frozen(&mut self, dtype: FloatDType) {
        self.visit_slots_mut(|_, slot| crate::precision::cast_slot(slot, dtype));
    }

    /// Keeps the frozen base quantised; see [`quantize_frozen`](crate::quantize_frozen).
    pub fn quantize_frozen(&mut self, quantization: Quantization) {
        crate::quantize_frozen(&mut self.base_model, quantization);
    }

    /// The wrapped model.
    pub fn get_base_model(&self) -> &M {
        &self.base_model
    }

    /// What targeting sees of the model: its slots in order.
    pub fn layers(&self) -> Vec<LayerInfo> {
        layers(&self.base_model)
    }

    /// Whether an adapter acts at layers, or could: whether the model stands in one of PEFT's
    /// wrappers, which shows in names.
    pub(crate) fn acts_at_layers(&self) -> bool {
        self.model_adapters.len() < self.peft_config.len() || self.peft_config.is_empty()
    }

    pub(crate) fn visit_slots(&self, mut visit: impl FnMut(&str, &dyn Slot)) {
        self.base_model
            .visit_slots(&mut Path::default(), &mut visit);
    }

    pub(crate) fn visit_slots_mut(&mut self, mut visit: impl FnMut(&str, &mut dyn Slot)) {
        self.base_model
            .visit_slots_mut(&mut Path::default(), &mut visit);
    }
}

/// Makes the tensors that all layers of an adapter share one and the same, the first layer's.
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

/// The adaptable layers of a model, in order.
pub fn layers(model: &impl Adaptable) -> Vec<LayerInfo> {
    let mut layers = Vec::new();
    model.visit_slots(&mut Path::default(), &mut |path, slot| {
        layers.push(slot.info(path, model));
    });
    layers
}
