//! The text that a model in training is asked to go on with now and then.

use std::ops::ControlFlow;

use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, generate};

use crate::error::Result;

/// A prompt that is continued after every evaluation of a run.
#[derive(Clone)]
pub struct SamplePrompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// What turns tokens into text.
    pub tokenizer: Tokenizer,
    /// How it is continued.
    pub settings: GenerationConfig,
}

impl SamplePrompt {
    /// What the model goes on with, without the prompt.
    ///
    /// # Errors
    /// As [`generate`]; or if the tokenizer does not know a token.
    pub fn continued(&self, model: &impl CausalLm) -> Result<String> {
        let mut go_on = |_| ControlFlow::Continue(());
        let ids = generate(model, &self.ids, &self.settings, &mut go_on)?;
        Ok(self.tokenizer.decode(&ids)?)
    }
}
