//! The task of a classifier of tokens: words with a tag each.

use crate::error::{DataError, Result, RowProblem};
use crate::format::{Content, Rows};
use crate::tokens::classes::{Classes, LabelKind};
use crate::tokens::example::{IGNORE_INDEX, Limits};
use crate::tokens::task::{Encoder, Labelled, Task};
use serde_json::Value;

/// How many of a label's 32 bits say how long a word is; the others say where it begins.
const LENGTH_BITS: u32 = 11;
/// The longest word that is told.
const LONGEST: i64 = (1 << LENGTH_BITS) - 1;

/// The task of a classifier of tokens. The label of a token is the number of its word's tag: of the
/// first piece of a word, or of all; that of the others is [`IGNORE_INDEX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The names of the tags, by number.
    pub names: Vec<String>,
    /// Whether all pieces of a word are tagged.
    pub all_pieces: bool,
    /// Whether the label of a word is where it is, not its tag: [`place`](Self::place).
    pub places: bool,
}

impl Tags {
    /// Where a word begins and ends, by its label: in characters of a text, or counted in a list of words
    /// or tokens.
    pub fn place(label: i64) -> (usize, usize) {
        let (start, length) = (label >> LENGTH_BITS, label & LONGEST);
        (start as usize, (start + length) as usize)
    }

    /// What tells the number of a tag.
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
        (start, end): (usize, usize),
    ) -> std::result::Result<i64, RowProblem> {
        if self.places {
            let length = (end - start) as i64;
            let is_near = start < 1 << (u32::BITS - 1 - LENGTH_BITS);
            let place = (start as i64) << LENGTH_BITS | length.min(LONGEST);
            return Ok(if is_near { place } else { IGNORE_INDEX });
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
                let tags =
                    tags.map(|(at, &tag)| self.label(&classes, Some(&tag.into()), (at, at + 1)));
                let labels = tags.collect::<std::result::Result<_, _>>().map_err(bad)?;
                return Ok(vec![Labelled { input_ids, labels }]);
            }
            _ => {
                return Err(DataError::row(
                    encoder.place,
                    "is no list of words with tags",
                ));
            }
        };
        let labels = words.iter().enumerate().map(|(at, (_, place))| {
            let tag = tags.as_ref().and_then(|tags| tags.get(at));
            self.label(&classes, tag, *place)
        });
        let labels: Vec<i64> = labels.collect::<std::result::Result<_, _>>().map_err(bad)?;
        let words = words.into_iter().map(|(word, _)| word).collect();
        let (ids, of_words) = encoder.tokenizer()?.encode_words(words)?;
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

    fn unknown_label(&self, _labels: &[i64], _limits: Limits) -> Option<i64> {
        None
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_into_labels() {
        let tags = Tags {
            places: true,
            ..Tags::default()
        };
        let classes = tags.classes();
        for place in [(0, 1), (7, 12), (1_000_000, 1_000_001)] {
            let label = tags.label(&classes, None, place).unwrap();
            assert_eq!(Tags::place(label), place);
            assert!(u32::try_from(label).is_ok_and(|label| label < u32::MAX));
        }
        assert_eq!(
            tags.label(&classes, None, (1 << 20, (1 << 20) + 1)),
            Ok(IGNORE_INDEX)
        );
        assert_eq!(
            Tags::default().label(&classes, None, (0, 1)),
            Err(RowProblem::Untagged)
        );
    }
}
