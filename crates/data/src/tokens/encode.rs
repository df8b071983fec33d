//! From the row of a file to examples.

use crate::error::{DataError, Result};
use crate::format::{CALLS, Content, Note, Row, Rows, Shape, is_masked, notes};
use crate::tokenizer::Tokenizer;
use crate::tokens::example::{Example, Limits};
use crate::tokens::rows::Dropped;
use crate::tokens::task::{Cuts, Encoder, Labelled, Task};
use crate::tokens::train_on::TrainOn;
use serde_json::{Map, Value};

/// Turns the rows of one file into examples.
pub(crate) struct RowEncoder<'a> {
    pub task: &'a dyn Task,
    pub shape: &'a Shape,
    pub tokenizer: Option<&'a Tokenizer>,
    pub limits: Limits,
    pub max_length: Option<usize>,
    pub train_on: TrainOn,
    /// Variables for the chat template, apart from the messages.
    pub kwargs: &'a Map<String, Value>,
    /// Split a text into windows instead of truncating it.
    pub document: bool,
}

/// What one row holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub content: Content,
    pub notes: Vec<Note>,
    /// Why it is left out, if that is known before tokenising.
    pub dropped: Option<Dropped>,
}

/// What became of one row.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    /// As many as the task makes from a row, more for a document; none if there is nothing to
    /// learn.
    pub examples: Vec<Example>,
    pub truncated: bool,
    /// Words with a tag that were cut off.
    pub tags_cut: usize,
    /// The row's number in its file.
    pub row: usize,
    /// Why there is no example.
    pub dropped: Option<Dropped>,
    pub notes: Vec<Note>,
}

impl RowEncoder<'_> {
    /// The examples of a row; `place` is its name in errors.
    pub fn encode(&self, row: &Row, place: &str) -> Result<Encoded> {
        self.encode_content(row.number, self.read(row, place)?, place)
    }

    /// What a row holds, in the terms of the tokenizer's chat template.
    pub fn read(&self, row: &Row, place: &str) -> Result<Held> {
        let mut content = self.shape.read(row, place)?;
        let mut notes = notes(self.shape, &row.columns, &content);
        let mut dropped = is_masked(self.shape, &row.columns).then_some(Dropped::Masked);
        for chat in content.chats_mut() {
            chat.prepare(self.train_on, self.kwargs);
            let unsaid = self.tokenizer.map(|tokenizer| tokenizer.fit(chat));
            notes.extend(unsaid.into_iter().flatten());
            if chat.learns(CALLS) && notes.contains(&Note::Unsaid(CALLS.into())) {
                dropped.get_or_insert(Dropped::Calls);
            }
        }
        Ok(Held {
            content,
            notes,
            dropped,
        })
    }

    /// The examples from what a row holds.
    pub fn encode_content(&self, row: usize, held: Held, place: &str) -> Result<Encoded> {
        let Held {
            content,
            notes,
            dropped,
        } = held;
        let mut encoded = Encoded {
            row,
            notes,
            dropped,
            ..Encoded::default()
        };
        if dropped.is_some() {
            return Ok(encoded);
        }
        let unlearnt = Dropped::unlearnt(&content, self.train_on);
        let cuts = Cuts::default();
        let labelled = match self.task.encode(content, &self.encoder(place, &cuts)) {
            Ok(labelled) => labelled,
            Err(error) => {
                encoded.dropped = Some(Dropped::by(&error).ok_or(error)?);
                return Ok(encoded);
            }
        };
        encoded.truncated = cuts.tokens.get();
        encoded.tags_cut = cuts.tags.get();
        for labelled in labelled {
            self.add(labelled, unlearnt, row, place, &mut encoded)?;
        }
        let is_compared = matches!(self.task.rows(), Rows::Pairs | Rows::Judged);
        if let [chosen, rejected] = &encoded.examples[..]
            && is_compared
            && chosen.input_ids == rejected.input_ids
        {
            // The part in which they differ may have been cut off.
            encoded.dropped.get_or_insert(Dropped::Equal);
        }
        if encoded.dropped.is_some() {
            // The examples of a row stay together, and a dropped row is not counted as cut as well.
            encoded.examples.clear();
            encoded.truncated = false;
        }
        Ok(encoded)
    }

    /// What a task tokenises with.
    pub fn encoder<'b>(&'b self, place: &'b str, cuts: &'b Cuts) -> Encoder<'b> {
        Encoder {
            tokenizer: self.tokenizer,
            train_on: self.train_on,
            place,
            // Without a length, rows longer than the model's positions are errors.
            max_length: self.max_length.unwrap_or(usize::MAX),
            cuts,
        }
    }

    /// Adds an example, cut to what the model can take.
    fn add(
        &self,
        labelled: Labelled,
        unlearnt: Dropped,
        row: usize,
        place: &str,
        encoded: &mut Encoded,
    ) -> Result<()> {
        let Labelled {
            mut input_ids,
            mut labels,
        } = labelled;
        let length = input_ids.len();
        if self.max_length.is_none() && !self.document && self.limits.forbid(length) {
            let place = place.into();
            return Err(DataError::TooLong {
                place,
                length,
                limits: self.limits,
            });
        }
        let max = self.max_length.unwrap_or(self.limits.default_length());
        let dropped = match (input_ids.len(), self.task.supervised(&labels)) {
            (0 | 1, 0) => Dropped::Short,
            (_, 0) => unlearnt,
            _ if self.task.rows() == Rows::Texts || self.task.kept(length, max).is_empty() => {
                Dropped::Cut
            }
            _ => Dropped::LongPrompt,
        };
        let truncated = length > max && !self.document;
        if truncated {
            let cut = self.task.kept(length, max);
            let before = self.task.supervised(&labels);
            input_ids = input_ids[cut.clone()].to_vec();
            labels = labels[cut].to_vec();
            if self.task.rows() == Rows::Tagged {
                encoded.tags_cut += before - self.task.supervised(&labels);
            }
        }
        let input_ids = self.checked(input_ids, &labels, place)?;
        let before = encoded.examples.len();
        // One chunk, except for a document.
        let chunks = input_ids.chunks(max).zip(labels.chunks(max));
        let learnt = chunks.filter(|(_, labels)| self.task.supervised(labels) > 0);
        encoded.examples.extend(learnt.map(|(ids, labels)| Example {
            input_ids: ids.to_vec(),
            labels: labels.to_vec(),
            row,
        }));
        if encoded.examples.len() == before {
            encoded.dropped.get_or_insert(dropped);
        }
        encoded.truncated |= truncated;
        Ok(())
    }

    /// The ids, checked to be in the model's vocabulary, with labels that the task knows.
    fn checked(&self, ids: Vec<i64>, labels: &[i64], place: &str) -> Result<Vec<u32>> {
        let vocab_size = self.limits.vocab_size;
        let known = |id: i64| {
            let id = u32::try_from(id).ok();
            id.filter(|&id| (id as usize) < vocab_size)
        };
        let unknown = |id| DataError::TokenId {
            place: place.into(),
            id,
            vocab_size,
        };
        if let Some(label) = self.task.unknown_label(labels, self.limits) {
            return Err(unknown(label));
        }
        ids.into_iter()
            .map(|id| known(id).ok_or_else(|| unknown(id)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::LIMITS;
    use crate::tokenizer::bpe::tiny;
    use crate::tokens::example::IGNORE_INDEX;
    use crate::tokens::lm::Lm;
    use serde_json::json;

    fn encode(row: Value, change: impl FnOnce(&mut RowEncoder)) -> Result<Vec<Example>> {
        let columns = row.as_object().cloned().unwrap();
        let shape = if columns.contains_key("input_ids") {
            Shape::Tokenized
        } else if columns.contains_key("prompt") {
            Shape::PromptCompletion("completion".into())
        } else {
            Shape::Text("text".into())
        };
        let tokenizer = tiny();
        let mut encoder = RowEncoder {
            task: &Lm,
            shape: &shape,
            tokenizer: Some(&tokenizer),
            limits: LIMITS,
            max_length: None,
            train_on: TrainOn::Answers,
            kwargs: &Map::new(),
            document: false,
        };
        change(&mut encoder);
        let encoded = encoder.encode(&Row { number: 7, columns }, "a.jsonl line 7")?;
        Ok(encoded.examples)
    }

    fn ids(text: &str) -> Vec<u32> {
        tiny().encode(text).unwrap()
    }

    #[test]
    fn text_ends_with_eos_and_is_all_learnt() {
        let example = encode(json!({"text": "the cat"}), |_| ())
            .unwrap()
            .remove(0);
        assert_eq!(example.input_ids, [ids("the cat"), vec![0]].concat());
        assert!(
            example
                .labels
                .iter()
                .zip(&example.input_ids)
                .all(|(l, i)| *l == i64::from(*i))
        );
        assert_eq!(Lm.supervised(&example.labels), example.input_ids.len() - 1);
        assert_eq!(example.row, 7);
    }

    #[test]
    fn prompts_are_not_learnt() {
        let row = json!({"prompt": "the cat", "completion": " sat"});
        let example = encode(row.clone(), |_| ()).unwrap().remove(0);
        assert_eq!(example.input_ids, [ids("the cat sat"), vec![0]].concat());
        let given = ids("the cat").len();
        assert!(
            example.labels[..given]
                .iter()
                .all(|&label| label == IGNORE_INDEX)
        );
        assert!(example.labels[given..].iter().all(|&label| label >= 0));
        let example = encode(row, |e| e.train_on = TrainOn::All)
            .unwrap()
            .remove(0);
        assert!(example.labels.iter().all(|&label| label >= 0));
    }

    #[test]
    fn an_example_starts_with_the_tokens_of_its_prompt() {
        // "the" is one token, but it cannot be generated from the prompt "th".
        assert_eq!(ids("the").len(), 1);
        let row = json!({"prompt": "th", "completion": "e"});
        let example = encode(row, |_| ()).unwrap().remove(0);
        assert_eq!(example.input_ids, [ids("th"), ids("e"), vec![0]].concat());
    }

    #[test]
    fn long_rows_are_cut_only_when_asked() {
        let row = json!({"text": "xyzxyzxyzxyzxyzxyz"});
        let error = encode(row.clone(), |_| ()).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.jsonl line 7 has 19 tokens, more than the model's n_positions 16; \
             set data.max_length to 16 or less to cut such rows"
        );
        let error = encode(row.clone(), |e| e.limits.adapter_positions = 8).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.jsonl line 7 has 19 tokens, more than the 16 positions for text: the model's \
             n_positions is 24, and 8 of them are the adapter's; set data.max_length to 16 or less \
             to cut such rows"
        );
        let cut = encode(row.clone(), |e| e.max_length = Some(5))
            .unwrap()
            .remove(0);
        assert_eq!((cut.input_ids, cut.labels.len()), (ids("xyzxy"), 5));
        // If positions do not end, they are a length to cut to, and more can be requested.
        let endless = |max_positions, max_length| {
            let row = json!({"input_ids": vec![1; 3000]});
            let change = |e: &mut RowEncoder| {
                e.limits.has_last_position = false;
                e.limits.max_positions = max_positions;
                e.max_length = max_length;
            };
            encode(row, change).unwrap()[0].input_ids.len()
        };
        assert_eq!(endless(16, None), 16);
        assert_eq!(endless(131_072, None), 2048);
        assert_eq!(endless(16, Some(2500)), 2500);
        let windows = encode(row, |e| e.document = true).unwrap();
        let lengths: Vec<usize> = windows
            .iter()
            .map(|window| window.input_ids.len())
            .collect();
        assert_eq!(lengths, [16, 3]);
    }

    #[test]
    fn rows_with_nothing_to_learn_give_no_example() {
        assert!(encode(json!({"text": ""}), |_| ()).unwrap().is_empty());
        assert!(
            encode(json!({"input_ids": [5]}), |_| ())
                .unwrap()
                .is_empty()
        );
        assert!(encode(json!({"input_ids": []}), |_| ()).unwrap().is_empty());
        let row = json!({"input_ids": [5, 6], "labels": [5, -100]});
        assert!(encode(row, |_| ()).unwrap().is_empty());
        let row = json!({"prompt": "xyzxyz", "completion": "x"});
        assert!(encode(row, |e| e.max_length = Some(6)).unwrap().is_empty());
    }

    #[test]
    fn tokens_beyond_the_vocabulary_are_errors() {
        for row in [
            json!({"input_ids": [1, 270]}),
            json!({"input_ids": [1, 2], "labels": [-100, 270]}),
        ] {
            let error = encode(row, |_| ()).unwrap_err().to_string();
            assert!(error.starts_with("a.jsonl line 7 has the token id 270, which is not below"));
        }
        assert!(encode(json!({"input_ids": [-1, 2]}), |_| ()).is_err());
        let error = encode(json!({"text": "the"}), |e| e.limits.vocab_size = 200).unwrap_err();
        assert!(error.to_string().contains("vocab_size 200"), "{error}");
    }

    #[test]
    fn only_text_needs_a_tokenizer() {
        assert_eq!(
            encode(json!({"input_ids": [1, 2]}), |e| e.tokenizer = None)
                .unwrap()
                .len(),
            1
        );
        let error = encode(json!({"text": "the"}), |e| e.tokenizer = None).unwrap_err();
        assert!(
            error.to_string().contains("there is no tokenizer"),
            "{error}"
        );
    }
}
