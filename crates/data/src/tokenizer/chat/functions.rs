//! The functions that transformers provides to templates.

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use std::fmt::Write as _;

/// Adds them to an environment.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The current time, formatted as Python's `strftime` does.
fn strftime_now(format: String) -> Result<String, Error> {
    let mut text = String::new();
    let bad = |_| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now({format:?})"),
        )
    };
    write!(text, "{}", chrono::Local::now().format(&format)).map_err(bad)?;
    Ok(text)
}
