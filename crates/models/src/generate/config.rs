//! How the next token is chosen.

use serde::{Deserialize, Serialize};

use crate::{InputError, Result};

/// How the next token is chosen; keys and order of the steps as in transformers'
/// `GenerationConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// The number of tokens to add, at most.
    pub max_new_tokens: usize,
    /// The logits are divided by it; 0 takes the most likely token always (greedy).
    pub temperature: f64,
    /// Only the so many most likely tokens can be chosen; 0 means all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability can be chosen; 1 means all.
    pub top_p: f64,
    /// Logits of tokens seen before are divided by it if positive and multiplied by it if
    /// negative (arXiv 1909.05858); 1 changes nothing.
    pub repetition_penalty: f64,
    /// The tokens that end the text; they are not part of it.
    pub eos_token_ids: Vec<u32>,
    /// The seed of the choice.
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
    /// Checks that every value is in its range.
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
