//! Standard output: where results go.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use serde_json::Value;

/// Prints text at once. False if the reader has left (`peft … | head`), which is no failure.
pub fn emit(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Prints a line. A reader that has left does not stop the job.
pub fn say(line: impl Display) -> Result<()> {
    emit(&format!("{line}\n")).map(drop)
}

/// Prints an object, indented.
pub fn say_json(value: &Value) -> Result<()> {
    say(format!("{value:#}"))
}

/// Lines of cells in columns, the first flush left and the others flush right.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(index, (cell, width))| match index {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A file's size as people read it: `1.2 MB`.
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
    fn sizes() {
        let sizes = [0, 999, 1000, 1_184_000, 497_759_232_000].map(super::size);
        assert_eq!(
            sizes,
            ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "497.8 GB"]
        );
    }
}
