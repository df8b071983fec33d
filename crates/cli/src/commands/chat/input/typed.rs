//! Lines that someone types.

use std::io::Write;

use anyhow::{Context, Result};

/// Lines that the terminal itself edits.
pub struct Typed;

impl Typed {
    /// Makes the terminal ready.
    pub fn open() -> Result<Self> {
        Ok(Self)
    }

    /// The next line; none when someone leaves.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>> {
        let mut out = std::io::stderr();
        let shown = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
        shown.context("cannot write to the terminal")?;
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        let bytes = read.context("cannot read from the terminal")?;
        let line = line.trim_end_matches(['\n', '\r']);
        Ok((bytes > 0).then(|| line.to_owned()))
    }
}
