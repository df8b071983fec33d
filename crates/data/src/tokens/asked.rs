//! Rows to predict for, one after the other; nothing of them is kept.

use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::format::{Content, Row};
use crate::source::{Finder, Source};
use crate::tokenizer::Tokenizer;
use crate::tokens::encode::{Encoded, RowEncoder};
use crate::tokens::example::{Example, Limits};
use crate::tokens::rows::Dropped;
use crate::tokens::task::Task;
use crate::tokens::tokenize::{Tokenize, bar};

/// A row to predict for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedRow {
    /// Its number in the file, counted from 1.
    pub row: usize,
    /// Its tokens; none if there is nothing to predict.
    pub example: Option<Example>,
    /// Where its words begin and end: in characters of a text, or counted in a list of words or
    /// tokens. Empty if the row is one text.
    pub words: Vec<(usize, usize)>,
    /// Why there is nothing to predict.
    pub skipped: Option<String>,
    /// What is wrong with its columns, if they cannot be read.
    pub problem: Option<String>,
}

/// The number of rows passed at a time: rows of similar length can be found among them.
pub const ASKED_AT_ONCE: usize = 2048;

/// Passes the rows of a file to `take` in order, [`ASKED_AT_ONCE`] at a time, until it returns
/// false. A name that is not a file is looked up by `find`; `task` turns rows into examples. On a
/// terminal a progress bar is shown. Returns how many rows were cut, in words.
///
/// # Errors
/// As [`see_rows`](crate::see_rows), and if a row is too long for the model.
pub fn ask_rows(
    spec: &str,
    config: &DataConfig,
    tokenizer: Option<&Tokenizer>,
    limits: Limits,
    find: Finder<'_>,
    task: &dyn Task,
    take: &mut dyn FnMut(Vec<AskedRow>) -> bool,
) -> Result<Vec<String>> {
    let tokenize = Tokenize::new(config, tokenizer, limits, find, task)?;
    let source = Source::open(spec, config.sample_by, find)?;
    let bar = bar(&source, "predicting {wide_bar} {bytes}/{total_bytes} read");
    let result = tokenize.ask(source, ASKED_AT_ONCE, bar.clone(), take);
    bar.finish_and_clear();
    result
}

impl RowEncoder<'_> {
    /// A row to predict for; `place` is its name in errors.
    pub fn ask(&self, row: &Row, place: &str, cut_by: &str) -> Result<(AskedRow, Encoded)> {
        let mut held = match self.read(row, place) {
            Ok(held) => held,
            // The other rows are still predicted for.
            Err(error @ DataError::Row { .. }) => {
                let asked = AskedRow {
                    row: row.number,
                    problem: Some(error.to_string()),
                    ..AskedRow::default()
                };
                let encoded = Encoded {
                    row: row.number,
                    ..Encoded::default()
                };
                return Ok((asked, encoded));
            }
            Err(error) => return Err(error),
        };
        // What is not learnt is still predicted for.
        held.dropped = None;
        let words = match &held.content {
            Content::Tagged { words, .. } => words.iter().map(|(_, place)| *place).collect(),
            Content::Tokens { input_ids, .. } => {
                (0..input_ids.len()).map(|at| (at, at + 1)).collect()
            }
            _ => Vec::new(),
        };
        let mut encoded = self.encode_content(row.number, held, place)?;
        let asked = AskedRow {
            row: row.number,
            example: encoded.examples.pop(),
            words,
            skipped: encoded.dropped.map(|why| match why {
                Dropped::Short => "it has no tokens, and so nothing to judge".into(),
                why => format!("it is left out: {}", why.describe(cut_by)),
            }),
            problem: None,
        };
        Ok((asked, encoded))
    }
}
