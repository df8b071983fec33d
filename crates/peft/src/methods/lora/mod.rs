//! LoRA and its variants: everything that is specific to LoRA.

mod builder;
mod config;
mod conv;
mod dora;
pub(crate) mod eva;
mod fa;
mod init;
mod layer;
mod method;
mod read;

pub use config::{EvaConfig, InitLoraWeights, LoftQConfig, LoraConfig};
pub(crate) use dora::MAGNITUDE;
pub use fa::LoraFa;
pub(crate) use init::{Weight, largest};
pub(crate) use layer::FACTORS;
pub(crate) use read::lora_variant_keys;
