//! Parameter-efficient fine-tuning for Burn: LoRA and its relatives, in Hugging Face PEFT's
//! file format.
//!
//! - A model holds its adaptable layers in slots, [`LoraAdapter<M>`], and derives [`Adaptable`].
//! - [`get_peft_model`] wraps it with the adapter that a configuration describes
//!   ([`LoraConfig`], [`IA3Config`], or any other [`Method`]); everything else is frozen.
//! - [`PeftModel`] counts, prints, switches, merges, saves and loads adapters.
//!
//! A method of your own is one file: see `examples/custom_method.rs`.

extern crate self as burn_peft;

mod adaptable;
mod adapter;
mod any_param;
mod attach;
mod base_layer;
pub mod combine;
pub mod config;
mod conv1d;
mod convert;
mod entries;
mod error;
mod eva;
pub mod files;
mod guard;
mod hotswap;
mod layer;
mod layer_norm;
mod lora_adapter;
mod lora_fa;
mod merging;
mod method;
pub mod methods;
mod model;
mod model_adapter;
mod model_method;
mod model_shown;
pub mod parameters;
mod part;
mod precision;
mod quantized_param;
mod record;
mod rows;
mod shared_param;
mod slot;
mod steps;
mod stored;
mod svd;
pub mod target;
pub mod tensor_file;
mod torch_random;
mod tree;
mod tying;

pub use adaptable::{Adaptable, BaseModel, Path};
pub use adapter::{Adapter, AdapterParam, AdapterTensor, Tensors};
pub use any_param::{AnyParam, LazyData};
pub use base_layer::{BaseLayer, LayerInput};
pub use burn_peft_derive::Adaptable;
pub use burn_peft_kernels::{QuantType, Quantization, QuantizedWeight, set_seed, with_seed};
pub use config::LoraConfig;
pub use conv1d::Conv1D;
pub use convert::Conversion;
pub use error::{PeftError, Result};
pub use guard::check_gradients;
pub use layer::{LayerInfo, LayerKind};
pub use layer_norm::LayerNorm;
pub use lora_adapter::LoraAdapter;
pub use lora_fa::LoraFa;
pub use method::{Base, Frozen, Init, LayerMethod, Method, Split, StateDict, TensorSpec};
pub use methods::{
    AdaLoraConfig, BOFTConfig, BottleneckConfig, FourierFTConfig, GraloraConfig, HRAConfig,
    HiraConfig, IA3Config, LNTuningConfig, LoHaConfig, LoKrConfig, OFTConfig, PrefixTuningConfig,
    PromptEncoderConfig, PromptTuningConfig, RandLoraConfig, TrainableTokensConfig, VBLoRAConfig,
    VeraConfig, WaveFTConfig,
};
pub use model::{DEFAULT_ADAPTER, PeftModel, get_peft_model, layers};
pub use model_method::{Extra, ModelInfo, ModelMethod};
pub use part::{Part, PartInput};
pub use precision::{cast_frozen, quantize_frozen};
pub use rows::BASE_ROW;
pub use shared_param::SharedParam;
pub use slot::{Slot, SlotState};
pub use steps::{StepGradients, StepLayer};
pub use tree::Tree;
pub use tying::untie_merged;

// What the macros write names it.
#[doc(hidden)]
pub use serde_json;
