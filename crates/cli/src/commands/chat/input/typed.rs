//! Lines typed at a terminal.

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

/// How many lines the history keeps.
const KEPT: usize = 1000;

/// Line editing with a history.
pub struct Typed {
    editor: Editor<(), DefaultHistory>,
    /// The file of the history, if it can be used.
    history: Option<PathBuf>,
}

impl Typed {
    /// Prepares the terminal and reads the history.
    pub fn open() -> Result<Self> {
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

    /// The next line; `None` if the user leaves.
    pub fn next(&mut self, prompt: &str) -> Result<Option<String>> {
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

    /// Continues without the file if it cannot be used.
    fn check(&mut self, done: rustyline::Result<()>) {
        let Err(error) = done else { return };
        if let Some(history) = self.history.take() {
            tracing::warn!("no history is kept: {}: {error}", history.display());
        }
    }
}

/// Ctrl-C discards a line that was begun; on an empty line it interrupts, as elsewhere.
struct ClearFirst;

impl ConditionalEventHandler for ClearFirst {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        (!context.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}
