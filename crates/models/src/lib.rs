//! Language models with slots for adapters, defined with Burn.
//!
//! A family is a file ([`families`]) and a line in the registry ([`AutoModel`]). What all decoders
//! have in common is written once ([`decoder`]), from shared parts ([`parts`]); [`CausalLm`] is the
//! interface of all models. Models come from and go to Hugging Face folders ([`weights`], [`hub`]).
//!
//! ```text
//! folder, Hub id, GGUF ──> weights ──> families ──> AutoModel ──┐
//!                                        │                      ├──> LanguageModel ──> generate
//!                        dense, encoder, decoder, parts         │        │
//!                               adapter ──> PeftModel<AutoModel>┘        └──> embeddings
//! ```
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use burn::tensor::Device;
//! use burn_peft_models::{AutoModel, GenerationConfig, Pretrained, generate};
//!
//! // A folder, a `.gguf` file, or an id on the Hub.
//! let model = AutoModel::from_pretrained("../../assets/tiny-gpt2", &Device::flex())?;
//! let config = GenerationConfig {
//!     max_new_tokens: 4,
//!     ..GenerationConfig::default()
//! };
//! // Token ids; `burn_peft_data::Tokenizer` converts texts to ids and back.
//! let tokens = generate(&model, &[5, 8, 13], &config, &mut |_| ControlFlow::Continue(()))?;
//! assert!(tokens.len() <= 4);
//! # Ok::<(), burn_peft_models::ModelError>(())
//! ```

mod attribute_map;
pub mod auto;
mod batch;
mod cache;
mod causal_lm;
mod checkpointing;
pub mod config;
mod config_error;
pub mod decoder;
pub mod dense;
pub mod embeddings;
pub mod encoder;
mod error;
pub mod families;
mod generate;
pub mod gguf;
mod heads;
pub mod hub;
mod input_error;
mod language_model;
mod loss;
pub mod parts;
mod peft_model;
mod texts;
pub mod weights;

pub use auto::{AutoConfig, AutoModel};
pub use batch::{IGNORE_INDEX, LmBatch, Ragged};
pub use burn_peft_kernels::{
    TokenLogProbs, TokenStatistics, is_gpu, token_log_probs, vocabulary_loss,
};
pub use cache::KvCache;
pub use causal_lm::{CausalLm, Checkpointed, ModelInput, position_ids};
pub use config::ModelConfig;
pub use config_error::ConfigError;
pub use decoder::{Decoder, DecoderBlock, LayerCache};
pub use dense::{DenseConfig, DenseForCausalLM};
pub use error::{ModelError, Result};
pub use families::bert::{BertConfig, BertForMaskedLM};
pub use families::distilbert::{DistilBertConfig, DistilBertForMaskedLM};
pub use families::gpt2::{GPT2LMHeadModel, Gpt2Config};
pub use generate::{
    Continuation, GENERATION_CONFIG, GenerationConfig, GenerationDefaults, Session, generate,
    generate_rows,
};
pub use heads::{Head, Labels, ProblemType, WantedHead};
pub use input_error::InputError;
pub use language_model::LanguageModel;
pub use peft_model::forward_rows;
pub use weights::Pretrained;
