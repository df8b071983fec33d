//! Settings for choosing the next token.

use serde::{Deserialize, Serialize};

use crate::{InputError, Result};

/// Settings for choosing the next token. Keys and the order of the steps are those of transformers'
/// `GenerationConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// The largest number of tokens to add.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token (greedy).
    pub temperature: f64,
    /// Choose among this many most likely tokens; 0 means all.
    pub top_k: usize,
    /// Choose among the most likely tokens that together have this probability; 1 means all.
    pub top_p: f64,
    /// The logits of tokens seen before are divided by this if positive and multiplied by it if
    /// negative (arXiv 1909.05858); 1 changes nothing.
    pub repetition_penalty: f64,
    /// The tokens that end the text; they are not included in it.
    pub eos_token_ids: Vec<u32>,
    /// The seed for sampling.
    pub seed: u64,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 50,
            temperature: 0.0,
            top_k: 50,
            top_p: 1.0,
            repetition_penalty: 1.0,
            eos_token_ids: Vec::new(),
            seed: 0,
        }
    }
}

impl GenerationConfig {
    /// Checks that every value is in range.
    ///
    /// # Errors
    /// The first that is not, with its range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, value, range| Err(InputError::Setting { key, value, range }.into());
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", self.temperature, "0 (greedy) or greater");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p, "above 0 and at most 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return refuse("repetition_penalty", self.repetition_penalty, "above 0");
        }
        Ok(())
    }
}
