//! What comes before a completion: the system message, earlier turns, and the prompt.

use super::column_names::{INPUT, SYSTEM};
use super::{no_text_in, text};
use crate::error::RowProblem;
use serde_json::{Map, Value};
use std::result::Result;

/// The prompt of an instruction row: the sections of the Alpaca data set, without the preamble.
pub fn instruction_prompt(instruction: &str, input: &str) -> String {
    let mut prompt = format!("### Instruction:\n{instruction}\n\n");
    if !input.trim().is_empty() {
        prompt += &format!("### Input:\n{input}\n\n");
    }
    prompt + "### Response:\n"
}

/// The first of these columns that holds text, not just white space.
pub(crate) fn first_text<'a>(
    row: &'a Map<String, Value>,
    columns: &[&str],
) -> Result<Option<&'a str>, RowProblem> {
    for column in columns {
        match row.get(*column) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.trim().is_empty() => {}
            Some(Value::String(text)) => return Ok(Some(text)),
            other => return Err(no_text_in(column, other)),
        }
    }
    Ok(None)
}

/// The column `prompt`, after the system message.
pub(super) fn plain(row: &Map<String, Value>) -> Result<String, RowProblem> {
    Ok(system(row)? + &text(row, "prompt")?)
}

/// The instruction and its input, after the system message and the earlier turns.
pub(super) fn instruction(row: &Map<String, Value>) -> Result<String, RowProblem> {
    let mut prompt = system(row)?;
    for (user, assistant) in history(row)? {
        prompt += &format!("{}{assistant}\n\n", instruction_prompt(&user, ""));
    }
    let input = first_text(row, &INPUT)?.unwrap_or_default();
    Ok(prompt + &instruction_prompt(&text(row, "instruction")?, input))
}

fn system(row: &Map<String, Value>) -> Result<String, RowProblem> {
    let text = first_text(row, &SYSTEM)?;
    Ok(text.map_or_else(String::new, |text| format!("{text}\n\n")))
}

/// The pairs of user and assistant in `history`, which a CSV file holds as JSON.
fn history(row: &Map<String, Value>) -> Result<Vec<(String, String)>, RowProblem> {
    let pairs = match row.get("history") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => serde_json::from_str(text),
        Some(value) => serde_json::from_value(value.clone()),
    };
    pairs.map_err(|_| RowProblem::History)
}
