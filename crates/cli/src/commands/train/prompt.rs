//! The text that is continued before, during and after training.

use anyhow::{Context, Result, ensure};
use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, Gpt2Config};
use burn_peft_train::{SamplePrompt, TrainConfig};

use super::super::generate::{encode_prompt, end_tokens, stream};
use crate::output::{emit, say};

/// The new tokens of the prompt that is continued before and after.
const NEW_TOKENS: usize = 80;

/// The text that is continued before and after.
pub struct Prompt {
    /// As the file has it.
    pub text: String,
    /// As the trainer continues it after evaluations.
    pub sample: SamplePrompt,
}

impl Prompt {
    /// The prompt of the file, if it has one; `n_positions` are those there are for tokens.
    pub fn new(
        config: &TrainConfig,
        tokenizer: Option<&Tokenizer>,
        model: &Gpt2Config,
        n_positions: usize,
    ) -> Result<Option<Self>> {
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
        Ok(Some(Self {
            text: text.clone(),
            sample: SamplePrompt {
                ids,
                tokenizer: tokenizer.clone(),
                settings,
            },
        }))
    }

    /// Prints the prompt and what the model goes on with, and returns the latter.
    pub fn show(&self, model: &impl CausalLm) -> Result<String> {
        let mut show = |text: &str| emit(&text.replace('\n', "\n    "));
        emit("  prompt: ")?;
        show(&self.text)?;
        emit("\n  continued: ")?;
        show(&self.text)?;
        let SamplePrompt {
            ids,
            tokenizer,
            settings,
        } = &self.sample;
        let (_, text) = stream(model, tokenizer, ids, settings, &mut show)?;
        say("")?;
        Ok(text)
    }
}
