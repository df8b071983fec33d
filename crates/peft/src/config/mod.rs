//! Configurations in `adapter_config.json`: the keys of all methods, those of each method, and
//! reading and writing the file.

mod bias;
pub(crate) mod check;
mod common;
mod fields;
mod json;
mod keys;
mod one_or_many;

pub use crate::methods::lora::{EvaConfig, InitLoraWeights, LoftQConfig, LoraConfig};
pub use crate::methods::prompt::PromptLearning;
pub use bias::{Bias, bias};
pub(crate) use common::LAYER_KEYS;
pub use common::{CommonConfig, HEAD_KEYS, PEFT_VERSION, TargetModules, TaskType};
pub use fields::Fields;
pub use json::render_json;
pub use keys::Keys;
pub use one_or_many::OneOrMany;
