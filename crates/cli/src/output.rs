//! Standard output: where results go.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anyhow::{Context, Result};
use burn_peft::parameters::thousands;
use burn_peft_train::time_left;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::Value;

use crate::ranks::is_first;

/// Whether colours may be written there: to a terminal that supports them, unless `NO_COLOR` or
/// `CLICOLOR=0` is set; always with `CLICOLOR_FORCE`. clap decides in the same way for its own
/// output.
pub fn coloured(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Prints text immediately; with several ranks, only on the first. Returns false if the reader has
/// closed the pipe (`peft … | head`), which is not an error.
pub fn emit(text: &str) -> Result<bool> {
    if !is_first() {
        return Ok(true);
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Prints a line. A closed pipe does not stop the job.
pub fn say(line: impl Display) -> Result<()> {
    emit(&format!("{line}\n")).map(drop)
}

/// Prints an object, indented; lists of numbers take one line each.
pub fn say_json(value: &Value) -> Result<()> {
    say(json(value, 0))
}

/// JSON at a level of indentation.
fn json(value: &Value, depth: usize) -> String {
    let is_inner = |value: &Value| value.is_array() || value.is_object();
    let (ends, items): (_, Vec<String>) = match value {
        Value::Array(values) if !values.is_empty() && values.iter().any(is_inner) => {
            let items = values.iter().map(|value| json(value, depth + 1));
            (['[', ']'], items.collect())
        }
        Value::Array(values) => {
            let items: Vec<String> = values.iter().map(Value::to_string).collect();
            return format!("[{}]", items.join(", "));
        }
        Value::Object(map) if !map.is_empty() => {
            let items = map.iter().map(|(key, value)| {
                let key = Value::from(key.as_str());
                format!("{key}: {}", json(value, depth + 1))
            });
            (['{', '}'], items.collect())
        }
        other => return other.to_string(),
    };
    let gap = format!("\n{:1$}", "", 2 * (depth + 1));
    let items = items.join(&format!(",{gap}"));
    format!("{}{gap}{items}\n{:3$}{}", ends[0], "", ends[1], 2 * depth)
}

/// The width of the terminal on standard output in columns, if it is one.
pub fn columns() -> Option<usize> {
    let terminal = console::Term::stdout();
    terminal.is_term().then(|| terminal.size().1.into())
}

/// A progress bar on standard error, over this many examples, with the remaining time.
pub fn evaluation_bar(label: &str, examples: usize) -> ProgressBar {
    bar(label, examples as u64, "{pos}/{len}")
}

/// A progress bar on standard error, over this many values, as a percentage with the remaining
/// time.
pub fn bar_of_values(label: &str, values: u64) -> ProgressBar {
    bar(label, values, "{percent} %")
}

fn bar(label: &str, of: u64, count: &str) -> ProgressBar {
    let bar = if is_first() {
        ProgressBar::new(of)
    } else {
        ProgressBar::hidden()
    };
    // It is as wide as the terminal: a line that wraps would stay there.
    let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {count}  {{left}}"));
    if let Ok(style) = style {
        let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Nothing is known before the first batch.
            if state.pos() > 0 {
                out.write_str(&time_left(state.eta())).ok();
            }
        };
        bar.set_style(style.with_key("left", left));
    }
    bar.set_message(label.to_string());
    bar
}

/// Lines of cells in columns, the first aligned left and the others right.
pub fn table(rows: &[impl AsRef<[String]>]) -> String {
    let mut widths = vec![0; rows.first().map_or(0, |row| row.as_ref().len())];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(index, (cell, width))| match index {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_string() + "\n"
    };
    rows.iter().map(|row| line(row.as_ref())).collect()
}

/// A number of items: `1 example`, `1,200 examples`.
pub fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(number))
}

/// A file's size for people: `1.2 MB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB"] {
        if value < 1000.0 {
            let digits = usize::from(unit != "bytes");
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} GB")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns() {
        let rows = [["a", "loss"], ["longer", "2"]].map(|row| row.map(String::from));
        assert_eq!(super::table(&rows), "a       loss\nlonger     2\n");
    }

    #[test]
    fn a_list_of_numbers_is_one_line_of_json() {
        let value = serde_json::json!({
            "token_ids": [5, 6, 7], "text": "a\"b", "none": [],
            "adapters": [{ "shape": [2, 3], "loss": 0.5 }],
        });
        let text = super::json(&value, 0);
        assert_eq!(
            text,
            "{\n  \"token_ids\": [5, 6, 7],\n  \"text\": \"a\\\"b\",\n  \"none\": [],\n  \
             \"adapters\": [\n    {\n      \"shape\": [2, 3],\n      \"loss\": 0.5\n    }\n  ]\n}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn sizes() {
        let sizes = [0, 999, 1000, 1_184_000, 497_759_232_000].map(super::size);
        assert_eq!(
            sizes,
            ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "497.8 GB"]
        );
    }
}
