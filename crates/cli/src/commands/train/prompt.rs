//! The text that is continued before, during and after training.

use anyhow::{Context, Result, ensure};
use burn_peft_data::{Limits, Tokenizer};
use burn_peft_models::{GenerationConfig, Gpt2Config};
use burn_peft_train::{SamplePrompt, Samples, TrainConfig};

use super::super::generate::{encode_prompt, end_tokens};

/// The new tokens of the prompt that is continued before and after.
const NEW_TOKENS: usize = 80;

/// The prompt of the file, if it has one.
pub fn prompt(
    config: &TrainConfig,
    tokenizer: Option<&Tokenizer>,
    model: &Gpt2Config,
    limits: Limits,
) -> Result<Option<SamplePrompt>> {
    let Some(text) = &config.prompt else {
        return Ok(None);
    };
    let tokenizer = tokenizer.context(
        "`prompt` needs a tokenizer, and the model's folder has none: name one with `tokenizer`",
    )?;
    let ids = encode_prompt(tokenizer, text)?;
    ensure!(
        ids.len() < limits.n_positions,
        "`prompt` has {} tokens, which leaves no room in {}: shorten it",
        ids.len(),
        limits.positions()
    );
    let settings = GenerationConfig {
        max_new_tokens: NEW_TOKENS.min(limits.n_positions - ids.len()),
        eos_token_ids: end_tokens(model, tokenizer),
        ..GenerationConfig::default()
    };
    Ok(Some(SamplePrompt {
        text: text.clone(),
        ids,
        tokenizer: tokenizer.clone(),
        settings,
        samples: Samples::default(),
    }))
}
