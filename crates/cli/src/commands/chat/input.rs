//! Lines of input: edited on a terminal, with a history; read as they are elsewhere.

use std::io::{BufRead, IsTerminal, Stdin};
use std::path::PathBuf;

use anyhow::{Context, Result};
use burn_peft_data::default_cache_dir;
use rustyline::config::Behavior;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, KeyEvent,
    Movement, RepeatCount,
};

/// The lines that the history keeps.
const KEPT: usize = 1000;

/// Where lines come from.
pub enum Lines {
    /// Someone types them.
    Terminal(Box<Typed>),
    /// Another program writes them, or they are a file's.
    Other {
        /// Standard input.
        input: Stdin,
        /// The lines read so far.
        count: usize,
    },
}

impl Lines {
    /// Lines of standard input.
    pub fn open() -> Result<Self> {
        let input = std::io::stdin();
        match input.is_terminal() {
            true => Ok(Self::Terminal(Box::new(Typed::open()?))),
            false => Ok(Self::Other { input, count: 0 }),
        }
    }

    /// Whether someone types them.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line that is not empty, without its end; none when there are no more. `prompt` is
    /// shown where someone types.
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

/// Lines that someone types.
pub struct Typed {
    editor: Editor<(), DefaultHistory>,
    /// The file of the history, unless it cannot be used.
    history: Option<PathBuf>,
}

impl Typed {
    fn open() -> Result<Self> {
        let config = Config::builder()
            .max_history_size(KEPT)
            .context("cannot keep a history")?
            .auto_add_history(true)
            // Standard output may be a file.
            .behavior(Behavior::PreferTerm)
            .build();
        let mut editor: Editor<(), DefaultHistory> =
            Editor::with_config(config).context("cannot use the terminal")?;
        let clear = EventHandler::Conditional(Box::new(ClearFirst));
        editor.bind_sequence(KeyEvent::ctrl('C'), clear);
        let history = default_cache_dir().join("chat_history");
        let mut typed = Self {
            editor,
            history: Some(history.clone()),
        };
        match typed.editor.load_history(&history) {
            Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(folder) = history.parent() {
                    let made = std::fs::create_dir_all(folder);
                    typed.check(made.map_err(ReadlineError::Io));
                }
            }
            read => typed.check(read),
        }
        Ok(typed)
    }

    fn next(&mut self, prompt: &str) -> Result<Option<String>> {
        match self.editor.readline(prompt) {
            Ok(line) => {
                if let Some(history) = &self.history {
                    let written = self.editor.append_history(history);
                    self.check(written);
                }
                Ok(Some(line))
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }

    /// Goes on without the file where it cannot be used.
    fn check(&mut self, done: rustyline::Result<()>) {
        let Err(error) = done else { return };
        if let Some(history) = self.history.take() {
            tracing::warn!("no history is kept: {}: {error}", history.display());
        }
    }
}

/// Ctrl-C takes a line away that is begun; at an empty one it interrupts, as elsewhere.
struct ClearFirst;

impl ConditionalEventHandler for ClearFirst {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        (!context.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
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
