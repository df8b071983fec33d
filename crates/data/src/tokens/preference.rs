//! The tasks that compare answers: two answers to one prompt, or single answers with a judgement.

use crate::error::{DataError, Result, RowProblem};
use crate::format::{Chat, Content, Rows};
use crate::tokenizer::Tokenizer;
use crate::tokens::example::{IGNORE_INDEX, Limits};
use crate::tokens::examples::Examples;
use crate::tokens::task::{Encoder, Labelled, Task, with_eos};
use serde_json::{Number, Value};
use std::ops::Range;

/// How a prompt and its answer are tokenised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptTokens {
    /// As in TRL's trainers for DPO, KTO and reward models: a text has the tokenizer's own special
    /// tokens and ends with the end-of-sequence token; a chat is what its template writes.
    #[default]
    Whole,
    /// As in TRL's trainers for ORPO and CPO: texts and chats begin with the tokenizer's
    /// `bos_token`, if it has one, and end with the end-of-sequence token.
    Bare,
}

/// The length of a row in tokens if neither the training file nor the model gives one (TRL's
/// `max_length`).
pub const DEFAULT_LENGTH: usize = 1024;

/// The task of an objective that compares two answers: a row becomes two examples, the better
/// answer and the worse one. The labels are [`IGNORE_INDEX`] on the prompt, and the tokens
/// themselves on the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// How the rows are tokenised.
    pub tokens: PromptTokens,
}

impl Task for Pairs {
    fn rows(&self) -> Rows {
        Rows::Pairs
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let Content::Preference {
            chosen, rejected, ..
        } = content
        else {
            return Err(DataError::row(encoder.place, "is not a pair of answers"));
        };
        if answer_of(&chosen) == answer_of(&rejected) {
            return Err(bad(encoder, RowProblem::EqualAnswers));
        }
        let [chosen, rejected] = [chosen, rejected].map(|side| self.tokens.of(&side, encoder));
        let (mut chosen, mut rejected) = (chosen?, rejected?);
        if self.tokens == PromptTokens::Whole {
            // Both have the same prompt.
            let shared = chosen.prompt.min(rejected.prompt);
            (chosen.prompt, rejected.prompt) = (shared, shared);
        }
        Ok(vec![chosen.labelled(), rejected.labelled()])
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        answered(labels)
    }

    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        is_answer(labels)
    }

    fn unknown_label(&self, labels: &[i64], limits: Limits) -> Option<i64> {
        unknown(labels, limits)
    }

    fn examples_per_row(&self) -> usize {
        2
    }

    fn default_length(&self, limits: Limits) -> Option<usize> {
        Some(DEFAULT_LENGTH.min(limits.max_positions))
    }

    fn name_of(&self, _labels: &[i64], index: usize) -> Option<&'static str> {
        ["chosen", "rejected"].get(index).copied()
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

/// The task of a reward model. As [`Pairs`], except that the label of the better answer's first
/// token, which is not predicted, holds by how much it is better ([`margin`](Self::margin)), and
/// that a row with an answer that is too long is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScoredPairs(Pairs);

impl ScoredPairs {
    /// By how much the better answer, which has these labels, should be ahead.
    pub fn margin(labels: &[i64]) -> f32 {
        let first = labels.first().and_then(|&bits| u32::try_from(bits).ok());
        first.map_or(0.0, f32::from_bits)
    }
}

impl Task for ScoredPairs {
    fn rows(&self) -> Rows {
        self.0.rows()
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let margin = match &content {
            Content::Preference { margin, .. } => margin.as_ref().and_then(Number::as_f64),
            _ => None,
        };
        let mut pair = self.0.encode(content, encoder)?;
        let margins = [margin.unwrap_or_default(), 0.0];
        for (labelled, margin) in pair.iter_mut().zip(margins) {
            if let Some(first) = labelled.labels.first_mut() {
                *first = i64::from((margin as f32).to_bits());
            }
        }
        Ok(pair)
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        self.0.supervised(labels)
    }

    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        self.0.is_trained(labels)
    }

    fn unknown_label(&self, labels: &[i64], limits: Limits) -> Option<i64> {
        self.0
            .unknown_label(labels.get(1..).unwrap_or_default(), limits)
    }

    fn examples_per_row(&self) -> usize {
        self.0.examples_per_row()
    }

    fn default_length(&self, limits: Limits) -> Option<usize> {
        self.0.default_length(limits)
    }

    fn kept(&self, _length: usize, _max: usize) -> Range<usize> {
        0..0
    }

    fn name_of(&self, labels: &[i64], index: usize) -> Option<&'static str> {
        self.0.name_of(labels, index)
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

/// The task of an objective of good and bad answers. The label of an example's first token, which
/// is not predicted, says which it is: 1 or 0. The other labels are as in [`Pairs`]. A row with two
/// answers becomes two examples, the better one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged;

impl Judged {
    /// Whether an example with these labels is a good answer.
    pub fn is_good(labels: &[i64]) -> bool {
        labels.first() == Some(&1)
    }
}

impl Task for Judged {
    fn rows(&self) -> Rows {
        Rows::Judged
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let sides = match content {
            Content::Preference {
                chosen, rejected, ..
            } => {
                if answer_of(&chosen) == answer_of(&rejected) {
                    return Err(bad(encoder, RowProblem::EqualAnswers));
                }
                vec![(chosen, true), (rejected, false)]
            }
            Content::Judged { answer, is_good } => vec![(answer, is_good)],
            _ => {
                return Err(DataError::row(
                    encoder.place,
                    "is not an answer that is judged",
                ));
            }
        };
        let examples = sides.into_iter().map(|(side, is_good)| {
            let mut labelled = PromptTokens::Whole.of(&side, encoder)?.labelled();
            if let Some(first) = labelled.labels.first_mut() {
                *first = i64::from(is_good);
            }
            Ok(labelled)
        });
        examples.collect()
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        answered(labels)
    }

    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        is_answer(labels)
    }

    fn unknown_label(&self, labels: &[i64], limits: Limits) -> Option<i64> {
        unknown(labels.get(1..).unwrap_or_default(), limits)
    }

    fn default_length(&self, limits: Limits) -> Option<usize> {
        Some(DEFAULT_LENGTH.min(limits.max_positions))
    }

    fn check(&self, examples: &Examples) -> Result<()> {
        let mut judgements = examples
            .iter()
            .map(|example| Self::is_good(&example.labels));
        let first = judgements.next();
        if judgements.all(|judgement| Some(judgement) == first) {
            let what = if first == Some(true) { "good" } else { "bad" };
            return Err(DataError::file(
                &examples.file,
                crate::error::FileProblem::OneKind(what),
            ));
        }
        Ok(())
    }

    fn packs(&self) -> bool {
        false
    }

    fn name_of(&self, labels: &[i64], _index: usize) -> Option<&'static str> {
        Some(if Self::is_good(labels) { "good" } else { "bad" })
    }

    fn cache_key(&self) -> Option<String> {
        Some("judged".into())
    }
}

fn answered(labels: &[i64]) -> usize {
    let predicted = labels.iter().skip(1);
    predicted.filter(|&&label| label != IGNORE_INDEX).count()
}

fn is_answer(labels: &[i64]) -> Vec<bool> {
    let labels = labels.iter().enumerate();
    let labels = labels.map(|(at, &label)| at > 0 && label != IGNORE_INDEX);
    labels.collect()
}

fn unknown(labels: &[i64], limits: Limits) -> Option<i64> {
    let known = 0..limits.vocab_size as i64;
    let mut labels = labels.iter().copied();
    labels.find(|label| *label != IGNORE_INDEX && !known.contains(label))
}

fn bad(encoder: &Encoder<'_>, problem: RowProblem) -> DataError {
    DataError::Row {
        place: encoder.place.into(),
        problem,
    }
}

/// The answer, without the prompt.
#[derive(PartialEq)]
enum Answer<'a> {
    Text(&'a str),
    Messages(&'a [Value]),
}

fn answer_of(content: &Content) -> Option<Answer<'_>> {
    match content {
        Content::Text(text) => Some(Answer::Text(text)),
        Content::Prompted { completion, .. } => Some(Answer::Text(completion)),
        Content::Chat(chat) => Some(Answer::Messages(&chat.messages[chat.given..])),
        _ => None,
    }
}

impl Answer<'_> {
    fn is_empty(&self) -> bool {
        let is_silent = |message: &Value| {
            let content = message["content"].as_str().unwrap_or_default();
            content.trim().is_empty() && message.get("tool_calls").is_none_or(Value::is_null)
        };
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Messages(messages) => messages.iter().all(is_silent),
        }
    }
}

/// Tokens, the first of which are the prompt's.
struct Tokens {
    ids: Vec<u32>,
    prompt: usize,
}

impl Tokens {
    fn labelled(self) -> Labelled {
        let input_ids: Vec<i64> = self.ids.into_iter().map(i64::from).collect();
        let mut labels = input_ids.clone();
        labels[..self.prompt].fill(IGNORE_INDEX);
        Labelled { input_ids, labels }
    }
}

impl PromptTokens {
    /// The tokens of a prompt with its answer.
    fn of(self, content: &Content, encoder: &Encoder<'_>) -> Result<Tokens> {
        if answer_of(content).is_none_or(|answer| answer.is_empty()) {
            return Err(bad(encoder, RowProblem::EmptyAnswer));
        }
        let tokenizer = encoder.tokenizer()?;
        match content {
            Content::Text(text) => self.text(tokenizer, "", text),
            Content::Prompted { prompt, completion } => self.text(tokenizer, prompt, completion),
            Content::Chat(chat) => self.chat(tokenizer, chat, encoder.place),
            _ => Err(DataError::row(
                encoder.place,
                "is not an answer to a prompt",
            )),
        }
    }

    fn text(self, tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Result<Tokens> {
        let whole = format!("{prompt}{completion}");
        match self {
            Self::Whole => {
                let (given, _) = tokenizer.encode_open(prompt)?;
                let ids = with_eos(tokenizer.encode(&whole)?, tokenizer);
                Ok(split(given, ids))
            }
            Self::Bare => {
                let given = tokenizer.encode_continuation(prompt)?;
                let ids = tokenizer.encode_continuation(&whole)?;
                Ok(closed(given, ids, tokenizer))
            }
        }
    }

    fn chat(self, tokenizer: &Tokenizer, chat: &Chat, place: &str) -> Result<Tokens> {
        let (given, whole) = tokenizer.answered_chat(chat, place)?;
        let given = tokenizer.encode_continuation(&given)?;
        let ids = tokenizer.encode_continuation(&whole)?;
        Ok(match self {
            Self::Whole => split(given, ids),
            Self::Bare => closed(given, ids, tokenizer),
        })
    }
}

/// The answer begins where the tokens of the prompt alone and of both together begin to differ, as
/// in TRL: if the end of the prompt merges with the answer, that end is learnt too.
fn split(given: Vec<u32>, ids: Vec<u32>) -> Tokens {
    let alike = given.iter().zip(&ids).take_while(|(a, b)| a == b);
    Tokens {
        prompt: alike.count(),
        ids,
    }
}

/// The same with the tokens that begin and end a sequence. If the prompt's last token merges with
/// the answer, that token is learnt too, as in TRL.
fn closed(given: Vec<u32>, ids: Vec<u32>, tokenizer: &Tokenizer) -> Tokens {
    let mut prompt = given.len().min(ids.len());
    if !ids.starts_with(&given) {
        prompt = prompt.saturating_sub(1);
    }
    let mut ids = with_eos(ids, tokenizer);
    if let Some(bos) = tokenizer
        .bos_id()
        .filter(|bos| prompt == 0 || ids.first() != Some(bos))
    {
        ids.insert(0, bos);
        prompt += 1;
    }
    Tokens { ids, prompt }
}
