//! Detecting the shape from the columns.

use super::Shape;
use super::column_names::{ANSWERS, CHATS, COMPLETIONS, PREFERENCES, PROMPTS};
use super::preference::value;
use super::template::{placeholders, shell_quoted};
use crate::config::DataConfig;
use crate::error::{DataError, FileProblem, Result, SettingProblem, WantedColumn};
use serde_json::{Map, Value};

/// Whether an object's own columns make it a row, whatever lists it holds.
pub(crate) fn is_row(columns: &Map<String, Value>) -> bool {
    let first = ["input_ids", "text", "chosen"].iter();
    let mut known = first.chain(&CHATS).chain(&PROMPTS);
    known.any(|name| columns.contains_key(*name))
}

pub(super) fn detect(first: &Map<String, Value>, file: &str, config: &DataConfig) -> Result<Shape> {
    let has = |column: &str| first.contains_key(column);
    let columns = || first.keys().cloned().collect::<Vec<_>>();
    let missing = |key, wanted| {
        let (file, columns) = (file.into(), columns());
        let problem = SettingProblem::NoColumn {
            wanted,
            file,
            columns,
        };
        DataError::setting(key, problem)
    };
    if first.is_empty() {
        return Err(DataError::file(file, FileProblem::NoColumns));
    }
    let named = config.completion_field.as_deref();
    if let Some(column) = named.filter(|column| !has(column)) {
        return Err(missing(
            "completion_field",
            WantedColumn::Named(column.into()),
        ));
    }
    if let Some(column) = &config.text_field {
        return if has(column) {
            Ok(Shape::Text(column.clone()))
        } else {
            Err(missing("text_field", WantedColumn::Named(column.clone())))
        };
    }
    if let Some(template) = &config.template {
        if let Some(name) = placeholders(template).find(|name| !has(name)) {
            return Err(missing("template", WantedColumn::OfTemplate(name.into())));
        }
        let is_filled = |column: &str| placeholders(template).any(|name| name == column);
        let mut completions = COMPLETIONS.into_iter().filter(|c| has(c) && !is_filled(c));
        let completion = named.or_else(|| completions.next());
        return Ok(Shape::Template(
            template.clone(),
            completion.map(Into::into),
        ));
    }
    if let Some(column) = named {
        return completed(first, column)
            .ok_or_else(|| missing("completion_field", WantedColumn::WithPrompt(column.into())));
    }
    if PREFERENCES.into_iter().all(has) {
        return Err(DataError::file(file, FileProblem::Preferences));
    }
    if has("input_ids") {
        return Ok(Shape::Tokenized);
    }
    if let Some(chat) = CHATS.into_iter().find(|column| has(column)) {
        return Ok(Shape::Messages(chat.into()));
    }
    // A column `text` often repeats the whole row, so it comes before less common names.
    let sure = [("prompt", "completion"), ("instruction", "output")];
    let mut sure = sure.into_iter().filter(|(a, b)| has(a) && has(b));
    if let Some(shape) = sure.next().and_then(|(_, column)| completed(first, column)) {
        return Ok(shape);
    }
    if has("text") {
        return Ok(Shape::Text("text".into()));
    }
    let completion = COMPLETIONS.into_iter().find(|column| has(column));
    let shape = completion.and_then(|column| completed(first, column));
    shape.ok_or_else(|| unknown(first, file))
}

/// The shape of rows that have a column of completions.
pub(super) fn completed(first: &Map<String, Value>, column: &str) -> Option<Shape> {
    let has = |column: &str| first.contains_key(column);
    let is_messages = |column: &str| {
        let value = value(first, column);
        value.is_some_and(|value| value.is_array() || value.is_object())
    };
    let column = column.to_owned();
    if let Some(chat) = CHATS.into_iter().find(|chat| has(chat)) {
        return Some(Shape::ChatCompletion(chat.into(), column));
    }
    if has("prompt") {
        return Some(if is_messages("prompt") || is_messages(&column) {
            Shape::ChatCompletion("prompt".into(), column)
        } else {
            Shape::PromptCompletion(column)
        });
    }
    has("instruction").then_some(Shape::Instruction(column))
}

/// Two columns that look like a prompt and its completion, in any letter case.
pub(crate) fn question_and_answer(first: &Map<String, Value>) -> Option<(&str, &str)> {
    let find = |names: &[&'static str]| {
        names.iter().find_map(|name| {
            let mut columns = first.iter().filter(|(_, value)| value.is_string());
            let (column, _) = columns.find(|(column, _)| column.eq_ignore_ascii_case(name))?;
            Some(column.as_str())
        })
    };
    let (prompt, answer) = (find(&PROMPTS)?, find(&ANSWERS)?);
    (prompt != answer).then_some((prompt, answer))
}

/// The error for columns that match no shape. If two of them look like a prompt and its completion,
/// it says how to name them.
fn unknown(first: &Map<String, Value>, file: &str) -> DataError {
    let text = first.keys().find(|name| name.eq_ignore_ascii_case("text"));
    let hint = match (question_and_answer(first), text) {
        (Some((prompt, answer)), _) => {
            let template = format!("{{{prompt}}}\\n");
            format!(
                "`{prompt}` and `{answer}` look like a prompt and its completion: say so with \
                 data.template = \"{template}\" and data.completion_field = \"{answer}\" \
                 (--template {} --completion-field {answer} after peft data and peft eval), with \
                 what you want around them",
                shell_quoted(&template)
            )
        }
        (None, Some(text)) => format!(
            "`{text}` looks like text: say so with data.text_field = \"{text}\" (--text-field {text})"
        ),
        _ => "name the column of text with data.text_field, or build a prompt with data.template \
              (and name its completion's column with data.completion_field)"
            .to_owned(),
    };
    unknown_with(first, file, hint)
}

/// A column beside two answers that looks like their prompt, and how to say so.
pub(super) fn unread_prompt(first: &Map<String, Value>, file: &str, prompt: &str) -> DataError {
    let template = format!("{{{prompt}}}\\n");
    let has_text = PREFERENCES
        .iter()
        .all(|column| first.get(*column).is_none_or(Value::is_string));
    let hint = if has_text {
        format!(
            "`{prompt}` looks like the prompt of both answers: say so with data.template = \
             \"{template}\" (--template {} after peft data and peft eval), with what you want \
             around it",
            shell_quoted(&template)
        )
    } else {
        format!("`{prompt}` looks like the prompt of both answers: name that column `prompt`")
    };
    unknown_with(first, file, hint)
}

fn unknown_with(first: &Map<String, Value>, file: &str, hint: String) -> DataError {
    DataError::UnknownShape {
        file: file.into(),
        columns: first.keys().cloned().collect(),
        known: "`text`, `prompt` with `completion`, `instruction` with `output` (and `input`), \
                `messages`, `input_ids`",
        hint,
    }
}

/// As [`detect`], with other known columns; `what` names what is looked for.
pub(super) fn detect_among(
    first: &Map<String, Value>,
    file: &str,
    config: &DataConfig,
    known: &'static str,
    what: &str,
) -> Result<Shape> {
    detect(first, file, config).map_err(|error| match error {
        DataError::UnknownShape { file, columns, .. } => DataError::UnknownShape {
            file,
            columns,
            known,
            hint: format!("name the column of the {what} with data.text_field (--text-field)"),
        },
        error => error,
    })
}
