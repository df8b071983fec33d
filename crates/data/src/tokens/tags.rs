//! The task of a token classifier: words, each with a tag.

use crate::error::{DataError, Result, RowProblem};
use crate::format::{Content, Rows};
use crate::tokenizer::Tokens;
use crate::tokens::classes::{Classes, LabelKind};
use crate::tokens::example::IGNORE_INDEX;
use crate::tokens::task::{Encoder, Labelled, Task};
use serde_json::Value;

/// The task of a token classifier. The label of a token is the number of its word's tag, on the
/// first piece of a word or on all of them; the other labels are [`IGNORE_INDEX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The names of the tags, by number.
    pub names: Vec<String>,
    /// Whether all pieces of a word are tagged.
    pub all_pieces: bool,
    /// Whether the label of a word is its index in the row instead of its tag.
    pub numbers_words: bool,
}

impl Tags {
    /// Looks up the number of a tag.
    fn classes(&self) -> Classes {
        Classes {
            names: self.names.clone(),
            kind: LabelKind::One,
            takes_unlabelled: false,
        }
    }

    fn label(
        &self,
        classes: &Classes,
        tag: Option<&Value>,
        word: usize,
    ) -> std::result::Result<i64, RowProblem> {
        if self.numbers_words {
            return Ok(word as i64);
        }
        match tag {
            None | Some(Value::Null) => Err(RowProblem::Untagged),
            Some(tag) if tag.as_i64() == Some(IGNORE_INDEX) => Ok(IGNORE_INDEX),
            Some(tag) => Ok(classes.label(tag)?[0]),
        }
    }
}

impl Task for Tags {
    fn rows(&self) -> Rows {
        Rows::Tagged
    }

    fn packs(&self) -> bool {
        false
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let bad = |problem| DataError::Row {
            place: encoder.place.into(),
            problem,
        };
        let classes = self.classes();
        let (words, tags) = match content {
            Content::Tagged { words, tags } => (words, tags),
            Content::Tokens { input_ids, labels } => {
                let tags = labels.iter().enumerate();
                let tags = tags.map(|(at, &tag)| self.label(&classes, Some(&tag.into()), at));
                let labels = tags.collect::<std::result::Result<_, _>>().map_err(bad)?;
                return Ok(vec![Labelled { input_ids, labels }]);
            }
            _ => {
                return Err(DataError::row(
                    encoder.place,
                    "is not a list of words with tags",
                ));
            }
        };
        let labels = (0..words.len()).map(|at| {
            let tag = tags.as_ref().and_then(|tags| tags.get(at));
            self.label(&classes, tag, at)
        });
        let labels: Vec<i64> = labels.collect::<std::result::Result<_, _>>().map_err(bad)?;
        let words = words.into_iter().map(|(word, _)| word).collect();
        let Tokens {
            ids,
            words: of_words,
            ..
        } = encoder.whole_words(words)?;
        if encoder.cuts.tokens.get() && !self.numbers_words {
            let seen = of_words.iter().flatten().max();
            let behind = seen.map_or(0, |&last| last as usize + 1);
            let tagged = labels.iter().skip(behind);
            let tagged = tagged.filter(|label| **label != IGNORE_INDEX);
            encoder.cuts.tags.set(tagged.count());
        }
        let mut before = None;
        let labels = of_words.into_iter().map(|word| {
            let is_first = word != before;
            before = word;
            let label = word.and_then(|word| labels.get(word as usize).copied());
            label
                .filter(|_| is_first || self.all_pieces)
                .unwrap_or(IGNORE_INDEX)
        });
        Ok(vec![Labelled {
            input_ids: ids.into_iter().map(i64::from).collect(),
            labels: labels.collect(),
        }])
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        labels
            .iter()
            .filter(|&&label| label != IGNORE_INDEX)
            .count()
    }

    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        labels.iter().map(|&label| label != IGNORE_INDEX).collect()
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_a_number_or_its_tag() {
        let tags = Tags {
            numbers_words: true,
            ..Tags::default()
        };
        assert_eq!(tags.label(&tags.classes(), None, 7), Ok(7));
        let tags = Tags::default();
        assert_eq!(
            tags.label(&tags.classes(), None, 0),
            Err(RowProblem::Untagged)
        );
    }
}
