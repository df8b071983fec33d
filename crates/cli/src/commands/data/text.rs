//! Showing a data file without a tokenizer: rows, columns, texts and their lengths in characters.

use anyhow::Result;
use burn_peft_data::Overview;
use serde_json::{Value, json};

use super::{lengths_json, marked, show_lengths};
use crate::output::{counted, say};

/// How many characters of a row are shown.
const CHARACTERS: usize = 600;

/// Prints the overview.
pub fn show(seen: &Overview) -> Result<()> {
    say(format!("{}: {}", seen.file, seen.shape))?;
    let columns: Vec<String> = seen.columns.iter().map(|c| format!("`{c}`")).collect();
    say(format!("columns: {}", columns.join(", ")))?;
    say(format!(
        "{}, {}; --model M, or --tokenizer M, counts them in tokens",
        counted(seen.lengths.len(), "row"),
        counted(seen.lengths.iter().sum(), "character")
    ))?;
    show_lengths("characters of a row", &seen.lengths)?;
    say("")?;
    for (row, pieces) in &seen.samples {
        let length: usize = pieces.iter().map(|(text, _)| text.chars().count()).sum();
        let mut text = marked(&cut(pieces));
        if length > CHARACTERS {
            text += &format!(" … and {} more characters", length - CHARACTERS);
        }
        say(format!("row {row}:\n  {}", text.replace('\n', "\n  ")))?;
    }
    Ok(())
}

/// The same as JSON.
pub fn json(seen: &Overview) -> Value {
    let samples = seen.samples.iter().map(|(row, pieces)| {
        let text: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
        json!({"row": row, "text": text})
    });
    json!({
        "file": seen.file,
        "shape": seen.shape.to_string(),
        "columns": seen.columns,
        "rows": seen.lengths.len(),
        "characters": seen.lengths.iter().sum::<usize>(),
        "length_in_characters": lengths_json(&seen.lengths),
        "samples": samples.collect::<Vec<_>>(),
    })
}

/// The first characters of some texts.
fn cut(pieces: &[(String, bool)]) -> Vec<(String, bool)> {
    let mut left = CHARACTERS;
    let pieces = pieces.iter().map(|(text, learnt)| {
        let shown: String = text.chars().take(left).collect();
        left -= shown.chars().count();
        (shown, *learnt)
    });
    pieces.filter(|(text, _)| !text.is_empty()).collect()
}
