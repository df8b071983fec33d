//! Rows as training sees them, for comparison with another implementation.

use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::format::{Content, Row};
use crate::source::Finder;
use crate::tokenizer::Tokenizer;
use crate::tokens::encode::{Encoded, RowEncoder};
use crate::tokens::example::Limits;
use crate::tokens::rows::cut_by;
use crate::tokens::task::{Cuts, Task};
use crate::tokens::tokenize::Tokenize;
use serde::Serialize;

/// A row as training sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SeenRow {
    /// Its number in the file, counted from 1.
    pub row: usize,
    /// Which of the row's answers it is: `chosen` or `rejected`, `good` or `bad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<&'static str>,
    /// Its text as rendered, including special tokens, before it is cut. `None` if the row has
    /// tokens and there is no tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its tokens, `[seq]`; `None` if the row is too long for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_ids: Option<Vec<u32>>,
    /// A label for each token, `[seq]`: -100 if it is not learnt. The loss does the shift by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<i64>>,
    /// Why nothing of it is learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Whether tokens were cut off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Passes the rows of a file to `take` in order, some at a time, until it returns false. A name
/// that is not a file is looked up by `find`; `task` turns rows into examples. Nothing is kept.
///
/// # Errors
/// As [`Examples::load_with`](crate::Examples::load_with); rows before the invalid one are still
/// passed to `take`. A row that is too long for the model is not an error here.
pub fn see_rows(
    spec: &str,
    config: &DataConfig,
    tokenizer: Option<&Tokenizer>,
    limits: Limits,
    find: Finder<'_>,
    task: &dyn Task,
    take: &mut dyn FnMut(Vec<SeenRow>) -> bool,
) -> Result<()> {
    Tokenize::new(config, tokenizer, limits, find, task)?.see(spec, take)
}

/// What is seen of one row.
#[derive(Default)]
pub(crate) struct Seen {
    /// One, except for a document.
    pub rows: Vec<SeenRow>,
    pub encoded: Encoded,
}

impl RowEncoder<'_> {
    /// A row as training sees it; `place` is its name in errors.
    pub fn see(&self, row: &Row, place: &str) -> Result<Seen> {
        let held = self.read(row, place)?;
        let content = held.content.clone();
        let mut seen = SeenRow {
            row: row.number,
            ..SeenRow::default()
        };
        let encoded = match self.encode_content(row.number, held, place) {
            Err(error @ DataError::TooLong { .. }) => {
                let said = error.to_string();
                seen.text = self.text(&content)?;
                seen.skipped = Some(said.trim_start_matches(place).trim_start().into());
                let (rows, encoded) = (vec![seen], Encoded::default());
                return Ok(Seen { rows, encoded });
            }
            encoded => encoded?,
        };
        if encoded.examples.len() > 1 {
            let rows = encoded.examples.iter().enumerate();
            let rows = rows.map(|(index, example)| -> Result<SeenRow> {
                let tokenizer = self.tokenizer;
                let text = tokenizer.map(|tokenizer| tokenizer.decode(&example.input_ids));
                Ok(SeenRow {
                    answer: self.task.name_of(&example.labels, index),
                    text: text.transpose()?,
                    input_ids: Some(example.input_ids.clone()),
                    labels: Some(example.labels.clone()),
                    ..seen.clone()
                })
            });
            let rows = rows.collect::<Result<_>>()?;
            return Ok(Seen { rows, encoded });
        }
        seen.truncated = encoded.truncated;
        if let Some(why) = encoded.dropped {
            // For a row that is left out, what cannot be made is not an error.
            seen.text = self.text(&content).unwrap_or_default();
            let cut_by = cut_by(self.max_length, self.limits.default_length());
            seen.skipped = Some(why.describe(&cut_by));
            if let Ok(labelled) = self
                .task
                .encode(content, &self.encoder(place, &Cuts::default()))
            {
                let ids = labelled.into_iter().flat_map(|labelled| labelled.input_ids);
                seen.input_ids = ids.map(|id| u32::try_from(id).ok()).collect();
            }
        } else if let Some(example) = encoded.examples.first() {
            seen.answer = self.task.name_of(&example.labels, 0);
            seen.text = self.text(&content)?;
            seen.input_ids = Some(example.input_ids.clone());
            seen.labels = Some(example.labels.clone());
        }
        let rows = vec![seen];
        Ok(Seen { rows, encoded })
    }

    /// The text that a row's tokens stand for.
    fn text(&self, content: &Content) -> Result<Option<String>> {
        let Some(tokenizer) = self.tokenizer else {
            return Ok(None);
        };
        let text = match content {
            Content::Text(text) => tokenizer.with_special_tokens(text)?,
            Content::Prompted { prompt, completion } => {
                tokenizer.with_special_tokens(&format!("{prompt}{completion}"))?
            }
            Content::Chat(chat) => tokenizer.written(chat)?,
            Content::Preference { chosen: answer, .. } | Content::Judged { answer, .. } => {
                return self.text(answer);
            }
            Content::Tagged { words, .. } => {
                let words = words.iter().map(|(word, _)| word.clone()).collect();
                tokenizer.decode(&tokenizer.encode_words_within(words, usize::MAX)?.ids)?
            }
            Content::TwoTexts(first, second) => {
                let tokens = tokenizer.encode_within(first, Some(second), usize::MAX)?;
                tokenizer.decode(&tokens.ids)?
            }
            Content::Texts { texts, .. } => texts.join("\n"),
            Content::Labelled { content, .. } => return self.text(content),
            Content::Tokens { input_ids, .. } => {
                let ids = input_ids.iter().map(|&id| u32::try_from(id).ok());
                match ids.collect::<Option<Vec<u32>>>() {
                    Some(ids) => tokenizer.decode(&ids)?,
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(text))
    }
}
