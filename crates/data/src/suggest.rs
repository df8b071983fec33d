//! What a file of rows needs said of its columns.

use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::format::{Shape, question_and_answer};
use crate::part::Part;
use crate::source::{Finder, Source};
use indicatif::ProgressBar;
use serde_json::{Map, Value};

/// Sets `template` and `completion_field` where the first row of `config.train` has columns that are
/// no shape, but look like a prompt and its completion; what is no file is looked for by `find`.
/// What says nothing of a shape yet, an empty file, is left as it is.
///
/// # Errors
/// As [`Overview::read`](crate::Overview::read), of the first row alone.
pub fn suggest_columns(config: &mut DataConfig, find: Finder<'_>) -> Result<()> {
    let source = Source::open(&config.train, config.sample_by, find)?;
    let Some(first) = first_row(&source)? else {
        return Ok(());
    };
    match Shape::detect(&first, &source.name, config) {
        Ok(_) => Ok(()),
        Err(error @ DataError::UnknownShape { .. }) => {
            let (prompt, answer) = question_and_answer(&first).ok_or(error)?;
            config.template = Some(format!("{{{prompt}}}\n"));
            config.completion_field = Some(answer.into());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The columns of the first row, or of the file where it names them itself.
fn first_row(source: &Source) -> Result<Option<Map<String, Value>>> {
    if let Some(columns) = source.schema()? {
        return Ok(Some(columns));
    }
    let bar = ProgressBar::hidden();
    let mut records = Part::default().records(source, &bar)?;
    let first = records.next().transpose()?;
    Ok(first
        .map(|record| source.parse(record))
        .transpose()?
        .map(|row| row.columns))
}
