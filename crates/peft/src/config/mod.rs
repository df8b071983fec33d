//! What an `adapter_config.json` says: the keys all methods share, those of each method, and
//! how the file is read and written.

pub(crate) mod check;
mod common;
mod fields;
mod json;
mod keys;
mod lora;
mod lora_builder;
mod lora_read;
mod one_or_many;
mod prompt_learning;

pub use common::{CommonConfig, PEFT_VERSION, TargetModules, TaskType};
pub use fields::Fields;
pub use json::render_json;
pub use keys::{Keys, bias};
pub use lora::{Bias, EvaConfig, InitLoraWeights, LoftQConfig, LoraConfig};
pub(crate) use lora_read::{lora_variant_keys, optional_keys};
pub use one_or_many::OneOrMany;
pub use prompt_learning::PromptLearning;
