//! The task of a language model: each token is predicted from the tokens before it.

use crate::error::{DataError, Result};
use crate::format::Content;
use crate::tokens::example::{IGNORE_INDEX, Limits};
use crate::tokens::task::{Encoder, Labelled, Task};

/// The task of a language model. The label of a token is its own id, or [`IGNORE_INDEX`] if it is
/// not learnt. The first token of an example cannot be predicted from anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lm;

impl Task for Lm {
    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let labelled = match content {
            Content::Text(text) => encoder.text(&text)?,
            Content::Prompted { prompt, completion } => encoder.prompted(&prompt, &completion)?,
            Content::Chat(chat) => encoder.chat(&chat)?,
            Content::Tokens { input_ids, labels } => Labelled { input_ids, labels },
            Content::Texts { .. } => {
                return Err(DataError::row(
                    encoder.place,
                    "holds texts that are compared",
                ));
            }
            Content::Preference { .. }
            | Content::Judged { .. }
            | Content::TwoTexts(..)
            | Content::Tagged { .. }
            | Content::Labelled { .. } => {
                return self.encode(content.answer(), encoder);
            }
        };
        Ok(vec![labelled])
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        let predicted = labels.iter().skip(1);
        predicted.filter(|&&label| label != IGNORE_INDEX).count()
    }

    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        let labels = labels.iter().enumerate();
        labels
            .map(|(at, &label)| at > 0 && label != IGNORE_INDEX)
            .collect()
    }

    fn unknown_label(&self, labels: &[i64], limits: Limits) -> Option<i64> {
        let known = 0..limits.vocab_size as i64;
        let mut labels = labels.iter().copied();
        labels.find(|label| *label != IGNORE_INDEX && !known.contains(label))
    }
}
