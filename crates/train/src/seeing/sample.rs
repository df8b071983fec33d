//! Samples: what a model in training writes for given prompts.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, generate_rows};

use crate::error::Result;
use crate::lock::lock;

/// How many characters of a question are shown before the sample of an answer.
const QUESTION: usize = 80;

/// Prompts that are continued together after every evaluation of a run.
#[derive(Clone)]
pub struct SamplePrompts {
    /// The prompts, at least one.
    pub prompts: Vec<SamplePrompt>,
    /// What turns tokens into text.
    pub tokenizer: Tokenizer,
    /// The generation settings.
    pub settings: GenerationConfig,
    /// The samples to be shown.
    pub samples: Samples,
}

/// A text to be continued, or a question to be answered.
#[derive(Clone, Debug, Default)]
pub struct SamplePrompt {
    /// The text; for a conversation, the last message before the answer.
    pub text: String,
    /// Its tokens; for a conversation, those of all of it.
    pub ids: Vec<u32>,
    /// Whether the continuation is a separate answer, as in a conversation.
    pub is_question: bool,
    /// The answer in the data, if there is one.
    pub expected: Option<String>,
}

/// A model's continuation of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The prompt, unless the run has only one.
    pub prompt: Option<String>,
    /// The continuation, without the prompt.
    pub text: String,
}

impl SamplePrompts {
    /// The model's continuations of the prompts.
    ///
    /// # Errors
    /// As [`generate_rows`], or if the tokenizer does not know a token.
    pub fn continued(&self, model: &impl CausalLm) -> Result<Vec<Sample>> {
        let prompts: Vec<&[u32]> = self.prompts.iter().map(|prompt| &prompt.ids[..]).collect();
        let mut go_on = |_, _| ControlFlow::Continue(());
        let rows = generate_rows(model, &prompts, &self.settings, &mut go_on)?;
        let samples = self.prompts.iter().zip(rows).map(|(prompt, row)| {
            let is_told = prompt.is_question || self.prompts.len() > 1;
            Ok(Sample {
                prompt: is_told.then(|| prompt.text.clone()),
                text: self.tokenizer.decode(&row.token_ids)?,
            })
        });
        samples.collect()
    }

    /// The samples as text: a prompt with its continuation, or a question and its answer.
    pub fn shown(&self, samples: &[Sample]) -> Vec<String> {
        let each = self.prompts.iter().zip(samples);
        let shown = each.map(|(prompt, sample)| {
            if prompt.is_question {
                format!("{} → {}", shortened(&prompt.text), sample.text)
            } else {
                format!("{}{}", prompt.text, sample.text)
            }
        });
        shown.collect()
    }
}

/// The beginning of a question, in one line.
fn shortened(question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(QUESTION) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Samples on their way from a run to what shows it, because Burn's events carry only numbers. All
/// clones are one queue.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<VecDeque<Vec<String>>>>);

impl Samples {
    /// Adds the samples of an evaluation that is about to end, formatted.
    pub(crate) fn push(&self, texts: Vec<String>) {
        self.queue(|queue| queue.push_back(texts));
    }

    /// Takes the samples of the evaluation that has ended, the oldest first.
    pub(crate) fn take(&self) -> Vec<String> {
        self.queue(VecDeque::pop_front).unwrap_or_default()
    }

    fn queue<T>(&self, with: impl FnOnce(&mut VecDeque<Vec<String>>) -> T) -> T {
        with(&mut lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_before_an_answer_is_one_short_line() {
        assert_eq!(shortened(" Who  is\nit? "), "Who is it?");
        let long = "ä".repeat(100);
        assert_eq!(shortened(&long), format!("{}…", "ä".repeat(80)));
    }
}
