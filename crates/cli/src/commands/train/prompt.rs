//! The text that is continued before, during and after training.

use anyhow::{Context, Result, ensure};
use burn_peft_data::{Limits, Tokenizer};
use burn_peft_models::{GenerationConfig, GenerationDefaults};
use burn_peft_train::{SamplePrompt, Samples, TrainConfig};

use super::super::generate::encode_prompt;

/// The new tokens of the prompt that is continued before and after.
const NEW_TOKENS: usize = 80;

/// The prompt of the file, if it has one; `eos_token_ids` are the tokens that end a text.
pub fn prompt(
    config: &TrainConfig,
    tokenizer: Option<&Tokenizer>,
    eos_token_ids: Vec<u32>,
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
        !limits.forbid(ids.len() + 1),
        "`prompt` has {} tokens, which leaves no room in {}: shorten it by {} tokens",
        ids.len(),
        limits.positions(),
        (ids.len() + 1).saturating_sub(limits.max_positions)
    );
    let settings = GenerationConfig {
        // Beyond the positions there are, or that the model was trained for, only where the prompt is.
        max_new_tokens: match limits.max_positions.saturating_sub(ids.len()) {
            0 => NEW_TOKENS,
            left => NEW_TOKENS.min(left),
        },
        eos_token_ids,
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

/// Says where rows end with another token than those that the model's files name.
pub fn warn_of_other_ends(
    defaults: &GenerationDefaults,
    tokenizer: Option<&Tokenizer>,
    vocab_size: usize,
) {
    let Some((tokenizer, eos)) = tokenizer.and_then(|t| Some((t, t.eos_id()?))) else {
        return;
    };
    // A config may keep GPT-2's 50256 beside a smaller vocabulary.
    let is_known = |id: &&u32| (**id as usize) < vocab_size;
    for (file, ids) in &defaults.eos_token_ids {
        let known: Vec<u32> = ids.iter().filter(is_known).copied().collect();
        if !known.is_empty() && !known.contains(&eos) {
            tracing::warn!(
                "rows end with the tokenizer's eos_token {:?} ({eos}), and {file} has eos_token_id \
                 {}: peft generate stops at each of them, other programs may not; make both say \
                 the same",
                tokenizer.id_to_token(eos).unwrap_or_default(),
                known
                    .iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
    }
}
