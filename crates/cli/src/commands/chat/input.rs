//! Reading lines of input: edited on a terminal, with a history; otherwise as they are.

use std::io::{BufRead, IsTerminal, Stdin};

use anyhow::{Context, Result};

mod typed;

use typed::Typed;

/// Where lines come from.
pub enum Lines {
    /// Typed at a terminal.
    Terminal(Box<Typed>),
    /// Written by another program, or from a file.
    Other {
        /// Standard input.
        input: Stdin,
        /// The number of lines read so far.
        count: usize,
    },
}

impl Lines {
    /// Lines of standard input.
    pub fn open() -> Result<Self> {
        let input = std::io::stdin();
        if input.is_terminal() {
            Ok(Self::Terminal(Box::new(Typed::open()?)))
        } else {
            Ok(Self::Other { input, count: 0 })
        }
    }

    /// Whether the lines are typed.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next non-empty line, without its line end; `None` at the end. `prompt` is shown if lines
    /// are typed.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>> {
        loop {
            let line = match self {
                Self::Terminal(typed) => typed.next(prompt)?,
                Self::Other { input, count } => next_of(&mut input.lock(), count)?,
            };
            let Some(line) = line else { return Ok(None) };
            if !line.trim().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

fn next_of(input: &mut impl BufRead, count: &mut usize) -> Result<Option<String>> {
    let mut line = String::new();
    *count += 1;
    let bytes = input.read_line(&mut line);
    let bytes = bytes.with_context(|| format!("cannot read line {count} of standard input"))?;
    let line = line.trim_end_matches(['\n', '\r']);
    let line = if *count == 1 {
        line.trim_start_matches('\u{feff}')
    } else {
        line
    };
    Ok((bytes > 0).then(|| line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_no_ends() {
        let mut input = &b"\xef\xbb\xbfone\r\n\n two \nlast"[..];
        let mut count = 0;
        let mut lines = Vec::new();
        while let Some(line) = next_of(&mut input, &mut count).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "", " two ", "last"]);
        let error = next_of(&mut &b"\xff\n"[..], &mut count).unwrap_err();
        assert!(error.to_string().contains("line 6"), "{error}");
    }
}
