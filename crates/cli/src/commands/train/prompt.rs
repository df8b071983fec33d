//! The text that is continued before, during and after training.

use anyhow::{Context, Result, ensure};
use burn_peft_data::Tokenizer;
use burn_peft_models::{GenerationConfig, Gpt2Config};
use burn_peft_train::{SamplePrompt, Samples, TrainConfig};

use super::super::generate::{encode_prompt, end_tokens};

/// The new tokens of the prompt that is continued before and after.
const NEW_TOKENS: usize = 80;

/// The prompt of the file, if it has one; `n_positions` are those there are for tokens.
pub fn prompt(
    config: &TrainConfig,
    tokenizer: Option<&Tokenizer>,
    model: &Gpt2Config,
    n_positions: usize,
) -> Result<Option<SamplePrompt>> {
    let Some(text) = &config.prompt else {
        return Ok(None);
    };
    let tokenizer = tokenizer.context(
        "`prompt` needs a tokenizer, and the model's folder has none: name one with `tokenizer`",
    )?;
    let ids = encode_prompt(tokenizer, text)?;
    ensure!(
        ids.len() < n_positions,
        "`prompt` has {} tokens, which leaves no room in the model's {n_positions} positions: \
             shorten it",
        ids.len()
    );
    let settings = GenerationConfig {
        max_new_tokens: NEW_TOKENS.min(n_positions - ids.len()),
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
