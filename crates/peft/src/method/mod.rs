//! The interface of a fine-tuning method; everything else is written once for all methods.

mod at_embeddings;
mod at_model;
mod layer_method;
mod steps;
mod takes_weight;
mod tensor_spec;

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::TensorData;
use indexmap::IndexMap;
use serde_json::{Map, Value};

pub use at_embeddings::AtEmbeddings;
pub use at_model::{AtModel, Extra, ModelInfo, ModelMethod};
pub(crate) use at_model::{no_place, same_size};
pub use layer_method::{AS_THE_LAYER, Base, Frozen, LayerMethod, Split};
pub use steps::{StepGradients, StepLayer, Steps};
pub use takes_weight::{StateDict, TakesWeight};
pub use tensor_spec::{Init, TensorSpec};

use crate::config::{Bias, CommonConfig, TargetModules};
use crate::{LayerInfo, PeftError, Result};

/// A method with its configuration: LoRA, IA³, one of your own.
///
/// A method is one file: its configuration (the keys of `adapter_config.json`) and, through
/// [`layer`](Self::layer), what it does at one layer. Attaching, freezing, counting, printing,
/// merging, saving and loading never depend on the method. What only a few methods do has traits of
/// its own: [`Steps`], [`AtModel`], [`AtEmbeddings`], [`TakesWeight`].
pub trait Method: Debug + Send + Sync {
    /// The name in `adapter_config.json`, such as `LORA`.
    fn peft_type(&self) -> &str;

    /// The name of PEFT's class and of its layers, such as `Lora` (`LoraModel`, `lora.Linear`).
    fn class_name(&self) -> &str;

    /// The keys that every method has.
    fn common(&self) -> &CommonConfig;

    /// The same configuration with other common keys.
    fn with_common(&self, common: CommonConfig) -> Arc<dyn Method>;

    /// The configuration as it is stored once it is attached to `layers`, which `common` names.
    fn attached(&self, common: CommonConfig, _layers: &[&LayerInfo]) -> Arc<dyn Method> {
        self.with_common(common)
    }

    /// All keys, as in `adapter_config.json`.
    fn to_json(&self) -> Map<String, Value>;

    /// Keys that are written only if they are set: those of variants, whose defaults PEFT fills in.
    fn optional_keys(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Checks everything that does not depend on a model.
    ///
    /// # Errors
    /// If a value is invalid; the error names the key and the value.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the method can adapt this layer.
    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind.is_linear()
    }

    /// The configuration with the values filled in that depend on the model, before it is attached
    /// to a model of this type with these layers; `None` if nothing is missing. The layers to adapt
    /// already include [`default_target_modules`](Self::default_target_modules).
    ///
    /// # Errors
    /// If the model cannot provide a value.
    fn prepared(
        &self,
        _model_type: &str,
        _layers: &[LayerInfo],
    ) -> Result<Option<Arc<dyn Method>>> {
        Ok(None)
    }

    /// The layers that are adapted if `target_modules` is not given.
    fn default_target_modules(&self, _model_type: &str) -> Option<TargetModules> {
        None
    }

    /// Which biases of the base are trained too.
    fn bias(&self) -> Bias {
        Bias::None
    }

    /// What the method does at one layer.
    ///
    /// # Errors
    /// If the configuration does not fit the layer; the error names it. The default implementation
    /// always fails, for methods that act at the model.
    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Err(PeftError::unfit(
            &layer.path,
            format!(
                "peft_type = {:?} does nothing at a layer such as {}",
                self.peft_type(),
                layer.path
            ),
        ))
    }

    /// What the method does at each of its layers, for a method whose layers depend on each other
    /// (tensors shared by all).
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        layers.iter().map(|layer| self.layer(layer)).collect()
    }

    /// The tensors that all layers share and a file has to hold, with their shapes: a file that is
    /// too small for them is rejected before they are drawn.
    fn shared_in_file(&self, _layers: &[&LayerInfo]) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    /// What the method does around training steps, if anything.
    fn steps(&self) -> Option<&dyn Steps> {
        None
    }

    /// The method at the model, if it acts there instead of at layers.
    fn at_model(&self) -> Option<&dyn AtModel> {
        None
    }

    /// What the method does at embeddings, in addition to its target layers, if anything.
    fn at_embeddings(&self) -> Option<&dyn AtEmbeddings> {
        None
    }

    /// The conversion of an adapter that took a part of the base's weights, if the method can take
    /// one.
    fn takes_weight(&self) -> Option<&dyn TakesWeight> {
        None
    }
}

/// The optional traits' answers, with a default for methods that do not implement them.
impl dyn Method + '_ {
    /// Whether the method acts at the model instead of at layers.
    pub fn acts_at_model(&self) -> bool {
        self.at_model().is_some()
    }

    /// The keys of the configuration that training may change.
    pub fn learnt_keys(&self) -> &[&str] {
        self.steps().map_or(&[], |steps| steps.learnt_keys())
    }

    /// Whether what is trained for the input embedding also acts on an output layer tied to it.
    pub fn ensure_weight_tying(&self) -> bool {
        let embeddings = self.at_embeddings();
        embeddings.is_some_and(|embeddings| embeddings.ensure_weight_tying())
    }

    /// As [`AtEmbeddings::further_layers`].
    ///
    /// # Errors
    /// As [`AtEmbeddings::further_layers`].
    pub(crate) fn further_layers(
        &self,
        layers: &[LayerInfo],
    ) -> Result<Vec<(String, Arc<dyn LayerMethod>)>> {
        let embeddings = self.at_embeddings();
        embeddings.map_or(Ok(Vec::new()), |embeddings| {
            embeddings.further_layers(layers)
        })
    }

    /// As [`TakesWeight::subtract_initial`].
    ///
    /// # Errors
    /// If the two do not fit, or the method does not change the base.
    pub fn subtract_initial(
        &self,
        now: StateDict,
        initial: IndexMap<String, TensorData>,
    ) -> Result<(Arc<dyn Method>, StateDict)> {
        let method = self
            .takes_weight()
            .ok_or_else(|| PeftError::NotConvertible {
                problem: format!(
                    "a {} adapter takes nothing from the base, so there is nothing to \
                     convert: use save_pretrained",
                    self.peft_type()
                ),
            })?;
        method.subtract_initial(now, initial)
    }
}
