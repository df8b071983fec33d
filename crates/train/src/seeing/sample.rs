//! The text that a model in training is asked to go on with now and then.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, generate};

use crate::error::Result;

/// A prompt that is continued after every evaluation of a run.
#[derive(Clone)]
pub struct SamplePrompt {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// What turns tokens into text.
    pub tokenizer: Tokenizer,
    /// How it is continued.
    pub settings: GenerationConfig,
    /// The samples that are to be shown.
    pub samples: Samples,
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

/// Samples on their way from a run to what shows it: Burn's events carry numbers alone. All clones
/// are one queue.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<VecDeque<String>>>);

impl Samples {
    /// Adds the sample of an evaluation that is about to end: prompt and continuation.
    pub(crate) fn push(&self, text: String) {
        self.queue(|queue| queue.push_back(text));
    }

    /// Takes the sample of the evaluation that has ended, the oldest there is.
    pub(crate) fn take(&self) -> Option<String> {
        self.queue(VecDeque::pop_front)
    }

    fn queue<T>(&self, with: impl FnOnce(&mut VecDeque<String>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
