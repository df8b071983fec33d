//! What an objective makes from the rows of a file, as far as no model is needed.

use crate::error::{DataError, Result, RowProblem};
use crate::format::{Chat, Content, Rows};
use crate::tokenizer::{Tokenizer, Tokens};
use crate::tokens::example::{IGNORE_INDEX, Limits};
use crate::tokens::examples::Examples;
use crate::tokens::train_on::TrainOn;
use std::cell::Cell;
use std::fmt::Debug;
use std::ops::Range;

/// What an objective makes from the rows of a file. An example is tokens with a label each. What
/// the labels mean is up to the task: this crate stores them and cuts them with their tokens, but
/// never interprets them.
///
/// [`Lm`](crate::Lm) is the task of a language model.
pub trait Task: Debug + Send + Sync {
    /// Turns a row into [`examples_per_row`](Self::examples_per_row) examples.
    ///
    /// # Errors
    /// If the row holds nothing that the task can use.
    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>>;

    /// The kind of rows that the task wants.
    fn rows(&self) -> Rows {
        Rows::Texts
    }

    /// The length in tokens that rows are cut to if no setting gives it; `None` if the model
    /// decides.
    fn default_length(&self, _limits: Limits) -> Option<usize> {
        None
    }

    /// Which of an example's tokens remain if it is cut from `length` to `max`: by default the
    /// first. If none remain, the row is left out.
    fn kept(&self, _length: usize, max: usize) -> Range<usize> {
        0..max
    }

    /// Checks the training examples.
    ///
    /// # Errors
    /// If they leave nothing to learn.
    fn check(&self, _examples: &Examples) -> Result<()> {
        Ok(())
    }

    /// The name of each example of a row where they are shown one by one, from its labels and its
    /// index in the row; `None` if a row has one example.
    fn name_of(&self, _labels: &[i64], _index: usize) -> Option<&'static str> {
        None
    }

    /// How many of an example's labels count. An example with none is left out.
    fn supervised(&self, labels: &[i64]) -> usize;

    /// Which tokens of an example are shown as learnt, `[seq]`. By default none is, which suits
    /// labels that belong to the whole text.
    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        vec![false; labels.len()]
    }

    /// An invalid label, if there is one. By default no label is invalid; a task whose labels are
    /// tokens asks [`Lm`](crate::Lm).
    fn unknown_label(&self, _labels: &[i64], _limits: Limits) -> Option<i64> {
        None
    }

    /// The number of examples of a row; they are always in the same batch, one after the other.
    fn examples_per_row(&self) -> usize {
        1
    }

    /// Whether several examples can share a row (`data.packing`).
    fn packs(&self) -> bool {
        true
    }

    /// What distinguishes these tokens from those of other tasks, in the cache.
    fn cache_key(&self) -> Option<String> {
        None
    }
}

/// Forwards all methods of a [`Task`] to another task, in an `impl Task`: `forward_task!(self =>
/// self.task);`. A new method of the trait gets a line here.
#[macro_export]
macro_rules! forward_task {
    ($self:ident => $task:expr) => {
        fn encode(
            &$self,
            content: $crate::Content,
            encoder: &$crate::Encoder<'_>,
        ) -> $crate::Result<Vec<$crate::Labelled>> {
            $task.encode(content, encoder)
        }

        fn rows(&$self) -> $crate::Rows {
            $task.rows()
        }

        fn default_length(&$self, limits: $crate::Limits) -> Option<usize> {
            $task.default_length(limits)
        }

        fn kept(&$self, length: usize, max: usize) -> ::std::ops::Range<usize> {
            $task.kept(length, max)
        }

        fn check(&$self, examples: &$crate::Examples) -> $crate::Result<()> {
            $task.check(examples)
        }

        fn name_of(&$self, labels: &[i64], index: usize) -> Option<&'static str> {
            $task.name_of(labels, index)
        }

        fn supervised(&$self, labels: &[i64]) -> usize {
            $task.supervised(labels)
        }

        fn is_trained(&$self, labels: &[i64]) -> Vec<bool> {
            $task.is_trained(labels)
        }

        fn unknown_label(&$self, labels: &[i64], limits: $crate::Limits) -> Option<i64> {
            $task.unknown_label(labels, limits)
        }

        fn examples_per_row(&$self) -> usize {
            $task.examples_per_row()
        }

        fn packs(&$self) -> bool {
            $task.packs()
        }

        fn cache_key(&$self) -> Option<String> {
            $task.cache_key()
        }
    };
}

/// Tokens with labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The token ids, not yet checked against a vocabulary, `[seq]`.
    pub input_ids: Vec<i64>,
    /// A label for each, `[seq]`.
    pub labels: Vec<i64>,
}

/// What a [`Task`] tokenises a row with.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    /// What is learnt of a row.
    pub train_on: TrainOn,
    /// The row's name in errors.
    pub place: &'a str,
    /// The length in tokens that an example is cut to, if set.
    pub(crate) max_length: usize,
    /// What was left out.
    pub(crate) cuts: &'a Cuts,
}

/// What was left out of a row.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// Whether tokens were left out.
    pub tokens: Cell<bool>,
    /// How many tagged words were left out.
    pub tags: Cell<usize>,
}

impl Encoder<'_> {
    /// The tokenizer.
    ///
    /// # Errors
    /// If there is none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.ok_or_else(|| DataError::Row {
            place: self.place.into(),
            problem: RowProblem::NoTokenizer,
        })
    }

    /// The tokens of a text, or of two that belong together, with the special tokens that the
    /// tokenizer puts around them, even if they are cut.
    ///
    /// # Errors
    /// If there is no tokenizer, or if it fails.
    pub fn whole(&self, first: &str, second: Option<&str>) -> Result<Tokens> {
        let tokens = self.tokenizer()?;
        let tokens = tokens.encode_within(first, second, self.max_length)?;
        self.cuts
            .tokens
            .set(self.cuts.tokens.get() || tokens.was_cut);
        Ok(tokens)
    }

    /// As [`whole`](Self::whole), for words.
    ///
    /// # Errors
    /// As [`whole`](Self::whole).
    pub fn whole_words(&self, words: Vec<String>) -> Result<Tokens> {
        let tokens = self.tokenizer()?;
        let tokens = tokens.encode_words_within(words, self.max_length)?;
        self.cuts
            .tokens
            .set(self.cuts.tokens.get() || tokens.was_cut);
        Ok(tokens)
    }

    /// A text and the end-of-sequence token; every token is its own label.
    ///
    /// # Errors
    /// If there is no tokenizer, or if it fails.
    pub fn text(&self, text: &str) -> Result<Labelled> {
        let tokenizer = self.tokenizer()?;
        Ok(learnt(with_eos(tokenizer.encode(text)?, tokenizer)))
    }

    /// A prompt and its completion. The prompt's tokens are labelled [`IGNORE_INDEX`] if only
    /// answers are learnt.
    ///
    /// # Errors
    /// If there is no tokenizer, or if it fails.
    pub fn prompted(&self, prompt: &str, completion: &str) -> Result<Labelled> {
        let (ids, given) = join(self.tokenizer()?, prompt, completion)?;
        let mut labelled = learnt(ids);
        if self.train_on != TrainOn::All {
            labelled.labels[..given].fill(IGNORE_INDEX);
        }
        Ok(labelled)
    }

    /// A conversation in the tokenizer's chat template. Whatever the assistant does not say, and
    /// those of its messages that are [`given`](Chat::given), are labelled [`IGNORE_INDEX`] unless
    /// everything is learnt.
    ///
    /// # Errors
    /// If there is no tokenizer, or its template rejects the chat.
    pub fn chat(&self, chat: &Chat) -> Result<Labelled> {
        let all = self.train_on == TrainOn::All;
        let (ids, trained) = self.tokenizer()?.encode_chat(chat, all, self.place)?;
        let mut labelled = learnt(ids);
        let labels = labelled.labels.iter_mut().zip(trained);
        let given = labels.filter(|(_, trained)| !trained);
        given.for_each(|(label, _)| *label = IGNORE_INDEX);
        Ok(labelled)
    }
}

/// Tokens and the end-of-sequence token, unless they already end with it.
pub fn with_eos(mut ids: Vec<u32>, tokenizer: &Tokenizer) -> Vec<u32> {
    if let Some(eos) = tokenizer.eos_id().filter(|eos| ids.last() != Some(eos)) {
        ids.push(eos);
    }
    ids
}

/// Tokens that are all learnt.
fn learnt(ids: Vec<u32>) -> Labelled {
    let input_ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
    Labelled {
        labels: input_ids.clone(),
        input_ids,
    }
}

/// The tokens of a prompt and its completion, and how many of them are the prompt's.
///
/// Generation starts from the tokens of the prompt alone, so an example must start with them too.
/// If a token of the joined text would cross the border, the two are encoded separately.
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
    use crate::testing::{file_of, load};

    /// A prompt and its completion as two texts that belong together.
    #[derive(Debug)]
    struct Pairs;

    impl Task for Pairs {
        fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
            let Content::Prompted { prompt, completion } = content else {
                return Err(DataError::row(encoder.place, "is not a pair"));
            };
            Ok(vec![encoder.text(&prompt)?, encoder.text(&completion)?])
        }

        fn supervised(&self, labels: &[i64]) -> usize {
            // Every text has the end-of-sequence token.
            labels.len().saturating_sub(1)
        }

        fn examples_per_row(&self) -> usize {
            2
        }

        fn cache_key(&self) -> Option<String> {
            Some("pairs".into())
        }
    }

    #[test]
    fn the_examples_of_a_row_stay_together() {
        let row = |prompt, completion| {
            format!("{{\"prompt\": \"{prompt}\", \"completion\": \"{completion}\"}}\n")
        };
        let rows = [row("x", "yy"), row("xx", ""), row("xxx", "y")].concat();
        let (_dir, mut config) = file_of(&rows);
        let data = load(&config, &Pairs).unwrap().train;
        // Nothing of the second row remains, since its completion is empty.
        assert_eq!((data.sequences(), data.len(), data.skipped), (2, 4, 1));
        let batch = data.batch(&[1, 0]);
        assert_eq!(batch.rows, [3, 3, 1, 1]);
        assert_eq!(batch.spans, [0..4, 4..6, 6..8, 8..11]);
        assert_eq!(data.lengths(), [5, 6]);
        // Another task has other tokens for the same file.
        assert_eq!(load(&config, &crate::Lm).unwrap().train.len(), 3);

        config.packing = true;
        let error = load(&config, &Pairs).unwrap_err().to_string();
        assert!(
            error.starts_with("data.packing is true, but the 2 examples"),
            "{error}"
        );
    }
}
