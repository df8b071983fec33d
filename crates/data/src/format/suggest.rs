//! Suggesting settings from the columns of a data file.

use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::format::{Rows, Shape, question_and_answer};
use crate::source::part::Part;
use crate::source::{Finder, Source};
use indicatif::ProgressBar;

use super::labelled::with_lists;

/// Columns that only ever hold a label; others (`category`, `target`) may stand beside any text.
const LABELS: [&str; 3] = ["label", "labels", "class"];

/// Whether the rows of a file are pairs of answers, judged by its first row. A name that is not a
/// file is looked up by `find`. A file without rows has no pairs.
///
/// # Errors
/// As [`Overview::read`](crate::Overview::read), for the first row only.
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

/// The objective that fits the rows of a file, judged by the columns of its first row: `dpo`,
/// `tag`, `classify` or `embed`; `None` for texts, prompts with an answer, and chats. A name that
/// is not a file is looked up by `find`.
///
/// # Errors
/// As [`Overview::read`](crate::Overview::read), for the first row only.
pub fn suggest_objective(
    spec: &str,
    config: &DataConfig,
    find: Finder<'_>,
) -> Result<Option<&'static str>> {
    let source = Source::open(spec, config.sample_by, find)?;
    let bar = ProgressBar::hidden();
    let Some(first) = Part::default().records(&source, &bar)?.next() else {
        return Ok(None);
    };
    let first = source.parse(first?)?.columns;
    let detect = |rows| Shape::detect_for(rows, &first, &source.name, config);
    let of_text = detect(Rows::Any);
    if matches!(of_text, Ok(Shape::Preference(..))) {
        return Ok(Some("dpo"));
    }
    let is_list = |column: &str| {
        first
            .get(column)
            .map(with_lists)
            .is_some_and(|value| value.is_array())
    };
    if let Ok(Shape::Tagged(words, Some(_))) = detect(Rows::Tagged)
        && is_list(&words)
    {
        return Ok(Some("tag"));
    }
    let is_plain = matches!(of_text, Ok(Shape::Text(_)) | Err(_));
    if !is_plain || question_and_answer(&first).is_some() {
        return Ok(None);
    }
    if let Ok(Shape::Labelled(text, Some(label))) = detect(Rows::Labelled)
        && LABELS.contains(&label.as_str())
        && matches!(*text, Shape::Text(_) | Shape::TwoTexts(..))
    {
        return Ok(Some("classify"));
    }
    let is_compared = matches!(detect(Rows::Embedded(Vec::new())), Ok(Shape::Texts(..)));
    Ok(is_compared.then_some("embed"))
}

/// If the columns of the first row of the first set of `config.train` match no shape but look like a
/// prompt and its completion, sets `template` and `completion_field`, and returns that row's prompt.
/// A name that is not a file is looked up by `find`. A file without rows changes nothing.
///
/// # Errors
/// As [`Overview::read`](crate::Overview::read), for the first row only.
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
