//! A model with adapters, as returned by `get_peft_model`.

mod attach;
mod convert;
mod entries;
mod guard;
mod hotswap;
mod loading;
mod merging;
mod model_adapter;
pub mod parameters;
mod precision;
mod record;
mod rows;
mod saving;
mod shown;
mod steps;
mod stored;
mod switching;
mod tying;
mod weighted;

pub use convert::Conversion;
pub use guard::check_gradients;
pub use precision::{FrozenForm, cast_frozen, quantize_frozen, quantize_frozen_except};
pub use tying::untie_merged;

use std::ops::Deref;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{FloatDType, TensorData};
use indexmap::IndexMap;

use self::model_adapter::ModelAdapter;
use crate::config::CommonConfig;
use crate::{Adaptable, BaseModel, LayerInfo, Method, Path, PeftError, Result, Slot};

/// The name of an adapter for which none is given.
pub const DEFAULT_ADAPTER: &str = "default";

/// Wraps a model so that only the adapter described by `config` is trained.
///
/// # Errors
/// If the configuration is invalid, or matches no layer of the model, or if the model already holds
/// adapters (`unload` them, or use [`PeftModel::add_adapter`]).
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
/// It dereferences to the model, so `peft_model.forward(…)` calls the model's. It does not
/// implement [`Adaptable`] itself: wrapping it a second time does not compile.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct PeftModel<M: Module> {
    pub(crate) base_model: M,
    /// The adapters that act at the model instead of at its layers.
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
        let mut peft_model = Self::unadapted(model)?;
        peft_model.add_adapter(adapter_name, config)?;
        peft_model.set_adapter(&[adapter_name])?;
        Ok(peft_model)
    }

    /// Wraps a model without adapters; all its weights are frozen.
    ///
    /// # Errors
    /// If it already holds adapters.
    pub(crate) fn unadapted(model: M) -> Result<Self> {
        let mut wrapped = Vec::new();
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            if !slot.adapters().is_empty() || !slot.state().saved.is_empty() {
                wrapped.push(path.to_string());
            }
        });
        if let Some(path) = wrapped.first() {
            return Err(PeftError::AlreadyWrapped {
                layer: path.clone(),
            });
        }
        let mut peft_model = Self {
            base_model: model.no_grad(),
            model_adapters: Vec::new(),
            peft_config: IndexMap::new(),
            active: Vec::new(),
            disabled: false,
        };
        peft_model.visit_slots_mut(|path, slot| slot.state_mut().path = path.to_string());
        Ok(peft_model)
    }

    /// The names of the active adapters.
    pub fn active_adapters(&self) -> &[String] {
        &self.active
    }

    /// The configurations of all adapters, by name.
    pub fn peft_config(&self) -> &IndexMap<String, Arc<dyn Method>> {
        &self.peft_config
    }

    /// Changes keys that do not affect the computation, such as `base_model_name_or_path`.
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
    /// If there is no adapter with this name; the error lists the existing ones.
    pub fn config(&self, adapter_name: &str) -> Result<&Arc<dyn Method>> {
        self.peft_config
            .get(adapter_name)
            .ok_or_else(|| PeftError::NoAdapter {
                name: adapter_name.to_string(),
                known: self.peft_config.keys().cloned().collect(),
            })
    }

    /// The values of one tensor of an adapter at the layer `path`, by the method's own name for it;
    /// `None` if there is none.
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

    /// Stores the frozen base in `dtype`; see [`cast_frozen`](crate::cast_frozen).
    pub fn cast_frozen(&mut self, dtype: FloatDType) {
        self.visit_slots_mut(|_, slot| crate::model::precision::cast_slot(slot, dtype));
    }

    /// Stores the frozen base quantised; see [`quantize_frozen`](crate::quantize_frozen).
    ///
    /// # Errors
    /// If a weight has NaN or infinite values.
    pub fn quantize_frozen(&mut self, form: impl Into<FrozenForm>) -> Result<()> {
        crate::quantize_frozen(&mut self.base_model, form)
    }

    /// Like [`quantize_frozen`](Self::quantize_frozen), except for some layers; see
    /// [`quantize_frozen_except`](crate::quantize_frozen_except).
    ///
    /// # Errors
    /// If a weight has NaN or infinite values, or a name is not a regular expression.
    pub fn quantize_frozen_except(
        &mut self,
        form: impl Into<FrozenForm>,
        skip_modules: &[String],
    ) -> Result<()> {
        crate::quantize_frozen_except(&mut self.base_model, form, skip_modules)
    }

    /// Whether an adapter holds a part of the weights, taken by its initialisation (PiSSA, OLoRA):
    /// without the adapter, the model is not the original one.
    pub fn holds_weights(&self) -> bool {
        let mut taken = false;
        self.visit_slots(|_, slot| taken |= !slot.state().originals.is_empty());
        taken
    }

    /// The wrapped model.
    pub fn get_base_model(&self) -> &M {
        &self.base_model
    }

    /// What targeting sees of the model: its slots in order.
    pub fn layers(&self) -> Vec<LayerInfo> {
        layers(&self.base_model)
    }

    /// Whether an adapter acts at layers, or there is no adapter. In that case PEFT wraps the
    /// model, which shows in the names of its parameters.
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

/// The adaptable layers of a model, in order.
pub fn layers(model: &impl Adaptable) -> Vec<LayerInfo> {
    let mut layers = Vec::new();
    model.visit_slots(&mut Path::default(), &mut |path, slot| {
        layers.push(slot.info(path, model));
    });
    layers
}
