//! What a model in training is asked to go on with now and then.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, generate_rows};

use crate::error::Result;

/// The characters of a question that stand before a sample of an answer.
const QUESTION: usize = 80;

/// Prompts that are continued together after every evaluation of a run.
#[derive(Clone)]
pub struct SamplePrompts {
    /// The prompts, one at least.
    pub prompts: Vec<SamplePrompt>,
    /// What turns tokens into text.
    pub tokenizer: Tokenizer,
    /// How they are continued.
    pub settings: GenerationConfig,
    /// The samples that are to be shown.
    pub samples: Samples,
}

/// A text that goes on, or a question that is answered.
#[derive(Clone, Debug, Default)]
pub struct SamplePrompt {
    /// The text; of a conversation the last that is said before the answer.
    pub text: String,
    /// Its tokens; those of the whole conversation.
    pub ids: Vec<u32>,
    /// Whether what comes is an answer of its own, as in a conversation.
    pub is_question: bool,
    /// What the data answer, where they do.
    pub expected: Option<String>,
}

/// What a model went on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// What was asked, where that is not told by the run itself: by its only prompt.
    pub prompt: Option<String>,
    /// The text, without the prompt.
    pub text: String,
}

impl SamplePrompts {
    /// What the model goes on with after each prompt.
    ///
    /// # Errors
    /// As [`generate_rows`]; or if the tokenizer does not know a token.
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

    /// The samples as people read them: a text with what it goes on with, a question and its answer.
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

/// Samples on their way from a run to what shows it: Burn's events carry numbers alone. All clones
/// are one queue.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<VecDeque<Vec<String>>>>);

impl Samples {
    /// Adds the samples of an evaluation that is about to end, as they are shown.
    pub(crate) fn push(&self, texts: Vec<String>) {
        self.queue(|queue| queue.push_back(texts));
    }

    /// Takes the samples of the evaluation that has ended, the oldest there is.
    pub(crate) fn take(&self) -> Vec<String> {
        self.queue(VecDeque::pop_front).unwrap_or_default()
    }

    fn queue<T>(&self, with: impl FnOnce(&mut VecDeque<Vec<String>>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
