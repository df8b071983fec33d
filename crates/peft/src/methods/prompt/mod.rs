//! Methods that prepend positions to a text: virtual tokens, prefixes.

mod encoder;
mod p_tuning;
mod prefix_tuning;
mod prompt_learning;
mod prompt_tuning;

pub use p_tuning::{PromptEncoderConfig, Reparameterization};
pub use prefix_tuning::{PrefixInit, PrefixTuningConfig};
pub use prompt_learning::PromptLearning;
pub use prompt_tuning::{PromptTuningConfig, PromptTuningInit};
