//! Language models with slots for adapters, defined with Burn.
//!
//! A family is a folder ([`gpt2`]); what all families answer is [`CausalLm`]. Models come from
//! and go to Hugging Face folders ([`checkpoint`], [`hub`]).

mod attribute_map;
mod batch;
mod cache;
mod causal_lm;
pub mod checkpoint;
mod checkpointing;
mod error;
mod generate;
pub mod gpt2;
pub mod hub;
mod loss;
mod peft_model;
mod texts;
mod unpad;

pub use batch::{IGNORE_INDEX, LmBatch};
pub use burn_peft_kernels::vocabulary_loss;
pub use cache::KvCache;
pub use causal_lm::{CausalLm, Checkpointed, ModelInput, position_ids};
pub use error::{ModelError, Result};
pub use generate::{GenerationConfig, GenerationDefaults, generate};
pub use gpt2::GPT2LMHeadModel;
pub use gpt2::Gpt2Config;
pub use peft_model::forward_rows;
