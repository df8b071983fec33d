//! Templates: text with `{column}` where a column's value goes.

use super::text;
use crate::config::DataConfig;
use crate::error::RowProblem;
use serde_json::{Map, Value};

/// The pieces of a template: the text before a placeholder, and the placeholder's name. A
/// placeholder is `{name}`, with a name of letters, digits, `_` and `-`; other braces are text.
fn pieces(template: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = template;
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(open) = rest[from..].find('{').map(|at| from + at) {
            let name_end = rest[open + 1..]
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
                .map(|at| open + 1 + at)
                .filter(|&end| end > open + 1 && rest[end..].starts_with('}'));
            if let Some(end) = name_end {
                let piece = (&rest[..open], Some(&rest[open + 1..end]));
                (rest, from) = (&rest[end + 1..], 0);
                return Some(piece);
            }
            from = open + 1;
        }
        let tail = std::mem::take(&mut rest);
        from = 0;
        (!tail.is_empty()).then_some((tail, None))
    })
}

impl DataConfig {
    /// The remarks about the template, or about a set's own, if it may not be what was meant.
    pub fn template_warning(&self) -> Option<String> {
        let sets = self.train.sets();
        let own = sets.iter().filter_map(|set| set.template.as_deref());
        self.template
            .as_deref()
            .into_iter()
            .chain(own)
            .find_map(unread_escape)
    }
}

/// Finds what is usually a slip with a shell's quotes: a line break or tab written as a backslash
/// and a letter, which is not read as one.
fn unread_escape(template: &str) -> Option<String> {
    let escapes = [("\\n", "line break"), ("\\t", "tab"), ("\\r", "line break")];
    let (escape, meant) = escapes
        .into_iter()
        .find(|(escape, _)| template.contains(escape))?;
    // The way a shell and TOML read it.
    let once = template.replace(&format!("\\{escape}"), escape);
    let (shell, toml) = (shell_quoted(&once), once.replace('"', "\\\""));
    Some(format!(
        "data.template holds a backslash and a letter, {escape}, and no {meant}: they are part \
         of the text as they stand. Where a {meant} is meant, write --template {shell} or --set \
         data.template={shell} in a shell, and template = \"{toml}\" in a training file"
    ))
}

/// An outline of a row's prompt: the template with `…` for each column.
pub fn example_prompt(template: &str) -> String {
    let pieces = pieces(template).map(|(text, name)| format!("{text}{}", name.map_or("", |_| "…")));
    pieces.collect()
}

/// A text with escapes such as `\n`, quoted so that a shell reads them.
pub(super) fn shell_quoted(escaped: &str) -> String {
    format!("$'{}'", escaped.replace('\'', r"\'"))
}

pub(super) fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    pieces(template).filter_map(|(_, name)| name)
}

/// Fills a template with the values of a row.
pub(super) fn fill(
    template: &str,
    columns: &Map<String, Value>,
) -> std::result::Result<String, RowProblem> {
    let mut filled = String::new();
    for (text, name) in pieces(template) {
        filled += text;
        if let Some(name) = name {
            filled += &scalar(columns, name)?;
        }
    }
    Ok(filled)
}

/// Inside a template, a number, true and false count as text.
fn scalar(columns: &Map<String, Value>, column: &str) -> std::result::Result<String, RowProblem> {
    match columns.get(column) {
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        _ => text(columns, column),
    }
}
