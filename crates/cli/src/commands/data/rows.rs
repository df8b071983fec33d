//! Printing every row as training sees it, as JSON.

use anyhow::{Result, bail};
use burn_peft_data::{
    DataConfig, DataError, Limits, RowProblem, SeenRow, Task, Tokenizer, see_rows,
};

use crate::loading::find_data;
use crate::output::emit;

/// Prints a JSON line for each row of a file, until its end or until the reader closes the pipe.
pub fn print(
    file: &str,
    config: &DataConfig,
    tokenizer: Option<&Tokenizer>,
    limits: Limits,
    task: &dyn Task,
) -> Result<()> {
    let mut printed = Ok(true);
    let mut take = |rows: Vec<SeenRow>| {
        printed = lines(&rows).and_then(|lines| emit(&lines));
        matches!(printed, Ok(true))
    };
    let seen = see_rows(file, config, tokenizer, limits, &find_data, task, &mut take);
    printed?;
    if let Err(DataError::Row { problem, .. }) = &seen
        && matches!(problem, RowProblem::NoTokenizer)
    {
        bail!(
            "--json prints the tokens of each row, and {file} holds text: name a model with --model, or a \
             tokenizer with --tokenizer (--summary does without)"
        );
    }
    Ok(seen?)
}

fn lines(rows: &[SeenRow]) -> Result<String> {
    let mut lines = String::new();
    for row in rows {
        lines += &serde_json::to_string(row)?;
        lines.push('\n');
    }
    Ok(lines)
}
