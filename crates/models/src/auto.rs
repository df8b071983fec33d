//! All families by name, a line for each.

use std::borrow::Cow;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_peft::{Adaptable, ModelInfo, Slot, Tree};

use crate::causal_lm::forward_causal_lm;
use crate::config::{CommonConfig, ModelConfig, model_type, no_preset, parse, read, unsupported};
use crate::config_error::ConfigError;
use crate::decoder::Decoder;
use crate::dense::{DenseForCausalLM, Family};
use crate::families::bert::BertForMaskedLM;
use crate::families::distilbert::DistilBertForMaskedLM;
use crate::families::gpt2::GPT2LMHeadModel;
use crate::families::modernbert::ModernBertForMaskedLM;
use crate::families::*;
use crate::hub::ModelFiles;
use crate::weights::{
    NamedTensor, Pretrained, Reading, SaveOptions, Weights, initial_weights, model_of, name_in,
};
use crate::{
    CausalLm, Checkpointed, Head, KvCache, LmBatch, ModelError, ModelInput, Result, TokenLogProbs,
    WantedHead,
};

/// Defines [`AutoModel`] and [`AutoConfig`], with a line for each family: its name and its model.
macro_rules! families {
    ($($family:ident: $model:ty),+ $(,)?) => {
        /// A model of any family (transformers' `AutoModelForCausalLM`).
        // There is only one, and its weights are stored elsewhere.
        #[allow(clippy::large_enum_variant)]
        #[derive(Module, Debug)]
        pub enum AutoModel {
            $(#[doc = concat!("A `", stringify!($model), "`.")] $family($model),)+
        }

        /// The configuration of a model of any family (transformers' `AutoConfig`).
        #[derive(Clone, Debug)]
        pub enum AutoConfig {
            $(#[doc = concat!("Of a `", stringify!($model), "`.")]
            $family(<$model as Decoder>::Config),)+
        }

        /// Runs an expression on the model, whatever its family.
        macro_rules! each_model {
            ($self:expr, $inner:ident => $body:expr) => {
                match $self { $(AutoModel::$family($inner) => $body,)+ }
            };
        }

        /// Runs an expression on the configuration, whatever its family.
        macro_rules! each_config {
            ($self:expr, $inner:ident => $body:expr) => {
                match $self { $(AutoConfig::$family($inner) => $body,)+ }
            };
        }

        /// Every `model_type` that is supported.
        pub fn model_types() -> Vec<&'static str> {
            [$(<<$model as Decoder>::Config as ModelConfig>::model_types()),+].concat()
        }

        $(impl From<$model> for AutoModel {
            fn from(model: $model) -> Self {
                Self::$family(model)
            }
        })+

        impl AutoConfig {
            /// Reads the object of a `config.json`.
            pub(crate) fn from_map(map: serde_json::Map<String, serde_json::Value>) -> std::result::Result<Self, ConfigError> {
                let family = model_type(&map)?;
                $(if <<$model as Decoder>::Config as ModelConfig>::model_types().contains(&family) {
                    return parse(map).map(Self::$family);
                })+
                Err(unsupported(&family.into(), model_types()))
            }

            /// The published models for which [`preset`](Self::preset) has a configuration.
            pub fn presets() -> Vec<&'static str> {
                [$(<<$model as Decoder>::Config as ModelConfig>::presets()),+].concat()
            }

            /// The configuration of a published model.
            ///
            /// # Errors
            /// If the name is not one of [`presets`](Self::presets).
            pub fn preset(name: &str) -> Result<Self> {
                $(if let Some(config) = <$model as Decoder>::Config::published(name) {
                    return Ok(Self::$family(config));
                })+
                Err(no_preset(name, Self::presets()))
            }
        }

        impl AutoModel {
            fn load(
                files: &ModelFiles,
                device: &Device,
                reading: Reading,
                head: Option<&WantedHead>,
            ) -> Result<Self> {
                match AutoConfig::from_file(files.get("config.json")?)? {
                    $(AutoConfig::$family(config) => {
                        model_of(config, files, device, reading, head).map(Self::$family)
                    })+
                }
            }
        }
    };
}

families! {
    Bert: BertForMaskedLM,
    DistilBert: DistilBertForMaskedLM,
    Gpt2: GPT2LMHeadModel,
    Dense: DenseForCausalLM,
    ModernBert: ModernBertForMaskedLM,
}

/// The families that share one decoder and differ by switches, a line for each.
pub(crate) const FAMILIES: &[&Family] = &[
    &apertus::FAMILY,
    &arcee::FAMILY,
    &cohere2::FAMILY,
    &ernie4_5::FAMILY,
    &exaone4::FAMILY,
    &gemma::FAMILY,
    &gemma2::FAMILY,
    &gemma3_text::FAMILY,
    &gemma3_text::WITH_IMAGES,
    &glm4::FAMILY,
    &gpt_neox::FAMILY,
    &granite::FAMILY,
    &hunyuan_v1_dense::FAMILY,
    &llama::FAMILY,
    &ministral::FAMILY,
    &ministral3::FAMILY,
    &mistral::FAMILY,
    &olmo2::FAMILY,
    &olmo3::FAMILY,
    &phi::FAMILY,
    &phi3::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &seed_oss::FAMILY,
    &smollm3::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
];

impl AutoConfig {
    /// Reads a `config.json` of any family.
    ///
    /// # Errors
    /// As [`ModelConfig::from_file`], or if `model_type` is not one of [`model_types`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_map(read(path)?).map_err(ModelError::config(path))
    }

    /// Whether a checkpoint's tensor is not a weight of the model; see [`ModelConfig::is_buffer`].
    pub(crate) fn is_buffer(&self, name: &str) -> bool {
        each_config!(self, config => config.is_buffer(name))
    }

    /// What is known about a model of any family.
    pub fn common(&self) -> CommonConfig {
        each_config!(self, config => config.common())
    }

    /// The path, with a dot, of everything but the head; see [`ModelConfig::prefix`].
    pub fn prefix(&self) -> Cow<'static, str> {
        each_config!(self, config => config.prefix())
    }

    /// The key of `config.json` for the longest sequence.
    pub fn positions_key(&self) -> &'static str {
        fn own<C: ModelConfig>(_: &C) -> &'static str {
            C::own_name("max_position_embeddings")
        }
        each_config!(self, config => own(config))
    }

    /// The text of a `config.json`; see [`ModelConfig::to_json`].
    pub fn to_json(&self) -> String {
        each_config!(self, config => config.to_json())
    }

    /// The head that it describes.
    pub fn head(&self) -> Head {
        each_config!(self, config => config.head().clone())
    }

    /// The keys of its `config.json`.
    pub fn keys(&self) -> serde_json::Map<String, serde_json::Value> {
        each_config!(self, config => config.to_map())
    }

    /// The number of parameters; a tied head counts once.
    pub fn num_parameters(&self) -> usize {
        each_config!(self, config => config.num_parameters())
    }

    /// The weights of a new model, each made when it is requested; see [`initial_weights`].
    pub fn initial_weights(&self, seed: u64) -> Vec<NamedTensor<'static>> {
        each_config!(self, config => initial_weights(config, seed))
    }
}

impl AutoModel {
    /// Opens a model with another kind of head than its files may describe: with the head in the
    /// files if it is of this kind, else with a new one. `reading` says how the weights are loaded.
    ///
    /// # Errors
    /// As [`from_files`](Pretrained::from_files); if the family has no such head; if the labels
    /// differ from those of the head in the files.
    pub fn with_head(
        files: &ModelFiles,
        device: &Device,
        reading: Reading,
        head: &WantedHead,
    ) -> Result<Self> {
        Self::load(files, device, reading, Some(head))
    }

    /// What is known from its configuration.
    pub fn common(&self) -> CommonConfig {
        each_model!(self, model => model.config().common())
    }
}

impl Pretrained for AutoModel {
    fn from_files(files: &ModelFiles, device: &Device) -> Result<Self> {
        Self::load(files, device, Reading::Now, None)
    }

    fn from_files_in_blocks(files: &ModelFiles, device: &Device) -> Result<Self> {
        Self::load(files, device, Reading::InBlocks, None)
    }

    fn from_files_lazily(
        files: &ModelFiles,
        device: &Device,
        narrow: Option<FloatDType>,
    ) -> Result<Self> {
        Self::load(files, device, Reading::Lazily(narrow), None)
    }

    fn reload(&mut self, directory: impl AsRef<Path>) -> Result<()> {
        each_model!(self, model => model.reload(directory))
    }

    fn dtype(&self) -> FloatDType {
        each_model!(self, model => Pretrained::dtype(model))
    }

    fn save_with(&self, directory: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        each_model!(self, model => model.save_with(directory, options))
    }
}

impl Adaptable for AutoModel {
    fn visit_slots(&self, path: &mut burn_peft::Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        each_model!(self, model => model.visit_slots(path, visit))
    }

    fn visit_slots_mut(
        &mut self,
        path: &mut burn_peft::Path,
        visit: &mut dyn FnMut(&str, &mut dyn Slot),
    ) {
        each_model!(self, model => model.visit_slots_mut(path, visit))
    }

    fn tree(&self) -> Tree {
        each_model!(self, model => model.tree())
    }

    fn model_type(&self) -> &str {
        each_model!(self, model => model.model_type())
    }

    fn input_embedding(&self) -> &str {
        each_model!(self, model => model.input_embedding())
    }

    fn output_embedding(&self) -> &str {
        each_model!(self, model => model.output_embedding())
    }

    fn untie_output(&mut self) -> bool {
        each_model!(self, model => model.untie_output())
    }

    fn resize_vocabulary(&mut self, rows: usize) -> bool {
        each_model!(self, model => model.resize_vocabulary(rows))
    }

    fn model_info(&self) -> Option<ModelInfo> {
        each_model!(self, model => model.model_info())
    }

    fn is_idle(&self, name: &str) -> bool {
        each_model!(self, model => model.is_idle(name))
    }
}

impl AutoModel {
    /// The name in the checkpoint of the weight that transformers calls `name`, if it is there.
    pub(crate) fn name_in(&self, weights: &dyn Weights, name: &str) -> Option<String> {
        each_model!(self, model => name_in(model, weights, name))
    }

    /// The name under which the weight that transformers calls `name` is written.
    pub(crate) fn written_name(&self, name: &str) -> String {
        each_model!(self, model => model.config().names_in_file(name).swap_remove(0))
    }

    /// The object of its `config.json`.
    pub(crate) fn config_map(&self) -> serde_json::Map<String, serde_json::Value> {
        each_model!(self, model => model.config().to_map())
    }

    /// The text of its `config.json` beside weights of this type.
    pub(crate) fn config_json_with(&self, dtype: FloatDType) -> String {
        each_model!(self, model => model.config().to_json_with(dtype))
    }

    /// What a checkpoint holds apart from weights.
    pub(crate) fn buffers(&self) -> Vec<NamedTensor<'static>> {
        each_model!(self, model => model.buffers())
    }
}

impl CausalLm for AutoModel {
    forward_causal_lm!(each_model);
}
