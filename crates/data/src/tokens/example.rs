//! From a row to tokens with labels.

use crate::error::{DataError, Result};
use crate::format::{Content, Note, Shape, is_masked, notes};
use crate::source::Row;
use crate::tokenizer::Tokenizer;
use crate::tokens::rows::Dropped;

/// The label of a token that is not learnt, as in PyTorch and transformers.
pub const IGNORE_INDEX: i64 = -100;

/// Tokens and what is to be learnt of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The token ids, `[seq]`.
    pub input_ids: Vec<u32>,
    /// `[seq]`: each token's own id, or [`IGNORE_INDEX`]. The shift by one is the loss's business.
    pub labels: Vec<i64>,
    /// The number of its row in the file.
    pub row: usize,
}

impl Example {
    /// Labels that are predicted: not ignored, and not the first, which nothing comes before.
    pub fn supervised_tokens(&self) -> usize {
        self.labels
            .iter()
            .skip(1)
            .filter(|&&label| label != IGNORE_INDEX)
            .count()
    }
}

/// What the model can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest sequence.
    pub max_positions: usize,
    /// What the model's `config.json` calls the longest sequence.
    pub positions_key: &'static str,
    /// The positions of the model that an adapter takes, which are not among these.
    pub adapter_positions: usize,
    /// The number of embeddings.
    pub vocab_size: usize,
}

impl Limits {
    /// How errors call the longest sequence: `the model's max_position_embeddings 128`.
    pub fn positions(&self) -> String {
        let (left, taken) = (self.max_positions, self.adapter_positions);
        let key = self.positions_key;
        match taken {
            0 => format!("the model's {key} {left}"),
            taken => format!(
                "the {left} positions for text: the model's {key} is {}, and {taken} of them are the \
                 adapter's",
                left.saturating_add(taken)
            ),
        }
    }
}

/// Turns rows of one file into examples.
pub(crate) struct Encoder<'a> {
    pub shape: &'a Shape,
    pub tokenizer: Option<&'a Tokenizer>,
    pub limits: Limits,
    pub max_length: Option<usize>,
    pub completion_only_loss: bool,
    /// Cut a text into windows, not off.
    pub document: bool,
}

/// What one row became.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    /// No more than one, but for a document; none where nothing is to be learnt.
    pub examples: Vec<Example>,
    pub truncated: bool,
    /// Why there is no example.
    pub dropped: Option<Dropped>,
    pub notes: Vec<Note>,
}

impl Encoder<'_> {
    /// The examples of a row, `place` being how errors call it.
    pub fn encode(&self, row: &Row, place: &str) -> Result<Encoded> {
        let content = self.shape.read(row, place)?;
        let notes = notes(self.shape, &row.columns, &content);
        if is_masked(self.shape, &row.columns) {
            return Ok(Encoded {
                dropped: Some(Dropped::Masked),
                notes,
                ..Encoded::default()
            });
        }
        let (mut input_ids, mut labels) = match content {
            Content::Text(text) => {
                let tokenizer = self.tokenizer(place)?;
                learnt(with_eos(tokenizer.encode(&text)?, tokenizer))
            }
            Content::Prompted { prompt, completion } => {
                let (ids, given) = join(self.tokenizer(place)?, &prompt, &completion)?;
                let (ids, mut labels) = learnt(ids);
                if self.completion_only_loss {
                    labels[..given].fill(IGNORE_INDEX);
                }
                (ids, labels)
            }
            Content::Chat(chat) => {
                let tokenizer = self.tokenizer(place)?;
                let (ids, trained) = tokenizer.encode_chat(&chat, place)?;
                let (ids, mut labels) = learnt(ids);
                if self.completion_only_loss {
                    let given = labels
                        .iter_mut()
                        .zip(trained)
                        .filter(|(_, trained)| !trained);
                    given.for_each(|(label, _)| *label = IGNORE_INDEX);
                }
                (ids, labels)
            }
            Content::Tokens { input_ids, labels } => (input_ids, labels),
        };

        let max = self.max_length.unwrap_or(self.limits.max_positions);
        let truncated = input_ids.len() > max && !self.document;
        if truncated && self.max_length.is_none() {
            let (place, length) = (place.into(), input_ids.len());
            return Err(DataError::TooLong {
                place,
                length,
                limits: self.limits,
            });
        }
        let dropped = match (input_ids.len(), labels.iter().skip(1).all(is_ignored)) {
            (0 | 1, _) => Dropped::Short,
            (_, true) => Dropped::Unlearnt,
            _ => Dropped::Cut,
        };
        if truncated {
            input_ids.truncate(max);
            labels.truncate(max);
        }
        let input_ids = self.checked(input_ids, &labels, place)?;
        // One chunk, except of a document.
        let chunks = input_ids.chunks(max).zip(labels.chunks(max));
        let examples = chunks.map(|(ids, labels)| Example {
            input_ids: ids.to_vec(),
            labels: labels.to_vec(),
            row: row.number,
        });
        let examples: Vec<Example> = examples
            .filter(|example| example.supervised_tokens() > 0)
            .collect();
        Ok(Encoded {
            dropped: examples.is_empty().then_some(dropped),
            // What was dropped is not counted as cut too.
            truncated: truncated && !examples.is_empty(),
            examples,
            notes,
        })
    }

    fn tokenizer(&self, place: &str) -> Result<&Tokenizer> {
        self.tokenizer.ok_or_else(|| DataError::Row {
            place: place.into(),
            problem:
                "holds text, and there is no tokenizer with the model; name one with `tokenizer` (on \
                 the command line --tokenizer)"
                    .into(),
        })
    }

    /// The ids, all known to be in the model's vocabulary, as the labels are.
    fn checked(&self, ids: Vec<i64>, labels: &[i64], place: &str) -> Result<Vec<u32>> {
        let vocab_size = self.limits.vocab_size;
        let known = |id: i64| {
            u32::try_from(id)
                .ok()
                .filter(|&id| (id as usize) < vocab_size)
        };
        let unknown = |id| DataError::TokenId {
            place: place.into(),
            id,
            vocab_size,
        };
        if let Some(&label) = labels
            .iter()
            .find(|&&l| l != IGNORE_INDEX && known(l).is_none())
        {
            return Err(unknown(label));
        }
        ids.into_iter()
            .map(|id| known(id).ok_or_else(|| unknown(id)))
            .collect()
    }
}

fn is_ignored(label: &i64) -> bool {
    *label == IGNORE_INDEX
}

fn with_eos(mut ids: Vec<u32>, tokenizer: &Tokenizer) -> Vec<u32> {
    if let Some(eos) = tokenizer.eos_id().filter(|eos| ids.last() != Some(eos)) {
        ids.push(eos);
    }
    ids
}

/// Tokens that are all to be learnt.
fn learnt(ids: Vec<u32>) -> (Vec<i64>, Vec<i64>) {
    let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
    (ids.clone(), ids)
}

/// The tokens of a prompt and its completion, and how many are the prompt's.
///
/// Generation starts from the tokens of the prompt alone, so an example must start with them too.
/// Where a token of the joined text would reach across the border, the two are encoded apart.
fn join(tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Result<(Vec<u32>, usize)> {
    let (given, closing) = tokenizer.encode_open(prompt)?;
    let mut ids = tokenizer.encode(&format!("{prompt}{completion}"))?;
    if !ids.starts_with(&given) {
        ids.clone_from(&given);
        ids.extend(tokenizer.encode_continuation(completion)?);
        ids.extend(closing);
    }
    Ok((with_eos(ids, tokenizer), given.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::bpe::tiny;
    use serde_json::{Value, json};

    fn encode(row: Value, change: impl FnOnce(&mut Encoder)) -> Result<Vec<Example>> {
        let columns = row.as_object().cloned().unwrap();
        let shape = match columns.contains_key("input_ids") {
            true => Shape::Tokenized,
            false if columns.contains_key("prompt") => Shape::PromptCompletion("completion".into()),
            false => Shape::Text("text".into()),
        };
        let tokenizer = tiny();
        let mut encoder = Encoder {
            shape: &shape,
            tokenizer: Some(&tokenizer),
            limits: Limits {
                max_positions: 16,
                positions_key: "n_positions",
                adapter_positions: 0,
                vocab_size: 270,
            },
            max_length: None,
            completion_only_loss: true,
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
        assert_eq!(example.supervised_tokens(), example.input_ids.len() - 1);
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
        let example = encode(row, |e| e.completion_only_loss = false)
            .unwrap()
            .remove(0);
        assert!(example.labels.iter().all(|&label| label >= 0));
    }

    #[test]
    fn an_example_starts_with_the_tokens_of_its_prompt() {
        // "the" is one token, but nobody can generate it from the prompt "th".
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
