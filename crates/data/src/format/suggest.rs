//! What a file of rows needs said of its columns.

use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::format::{Rows, Shape, question_and_answer};
use crate::source::part::Part;
use crate::source::{Finder, Source};
use indicatif::ProgressBar;

/// Whether the rows of a file are pairs of answers, by its first row; what is no file is looked for by
/// `find`. A file without rows has none.
///
/// # Errors
/// As [`Overview::read`](crate::Overview::read), of the first row alone.
pub fn holds_pairs(spec: &str, config: &DataConfig, find: Finder<'_>) -> Result<bool> {
    let source = Source::open(spec, config.sample_by, find)?;
    let bar = ProgressBar::hidden();
    let Some(first) = Part::default().records(&source, &bar)?.next() else {
        return Ok(false);
    };
    let first = source.parse(first?)?.columns;
    let shape = Shape::detect_for(Rows::Any, &first, &source.name, config)?;
    Ok(matches!(shape, Shape::Preference(..)))
}

/// Sets `template` and `completion_field` where the first row of the first set of `config.train` has
/// columns that are no shape, but look like a prompt and its completion, and returns the prompt of
/// that row; what is no file is looked for by `find`. A file without rows says nothing.
///
/// # Errors
/// As [`Overview::read`](crate::Overview::read), of the first row alone.
pub fn suggest_columns(config: &mut DataConfig, find: Finder<'_>) -> Result<Option<String>> {
    let Some(set) = config.train.sets().into_iter().next() else {
        return Ok(None);
    };
    let source = Source::open(&set.spec(), config.sample_by, find)?;
    let bar = ProgressBar::hidden();
    let Some(first) = Part::default().records(&source, &bar)?.next() else {
        return Ok(None);
    };
    let first = source.parse(first?)?.columns;
    match Shape::detect_for(Rows::Any, &first, &source.name, config) {
        Ok(_) => Ok(None),
        Err(error @ DataError::UnknownShape { .. }) => {
            let (prompt, answer) = question_and_answer(&first).ok_or(error)?;
            let sample = first[prompt].as_str().map(|text| format!("{text}\n"));
            config.template = Some(format!("{{{prompt}}}\n"));
            config.completion_field = Some(answer.into());
            Ok(sample)
        }
        Err(error) => Err(error),
    }
}
