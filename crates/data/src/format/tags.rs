//! Hermes' tags, which enclose tools, calls and answers in the text of messages.

use super::tools::{calls_in, json_in, tools};
use serde_json::Value;

/// The text of a message outside of `<tool_call>`, and the calls inside it; no calls if there are
/// none or one cannot be read.
pub(super) fn calls(text: &str) -> Option<(String, Vec<Value>)> {
    let (outside, inside) = split(text, "tool_call")?;
    let calls: Option<Vec<_>> = inside.into_iter().map(calls_in).collect();
    Some((outside.trim().into(), calls?.concat()))
}

/// All calls in tags in a text, whatever else it contains.
pub(crate) fn calls_in_tags(text: &str) -> Vec<Value> {
    let inside = split(text, "tool_call").map(|(_, inside)| inside);
    let calls = inside.into_iter().flatten().filter_map(calls_in);
    calls.flatten().collect()
}

/// The answers of tools, if the message consists of nothing else.
pub(super) fn responses(text: &str) -> Option<Vec<&str>> {
    let (outside, inside) = split(text, "tool_response")?;
    outside.trim().is_empty().then_some(inside)
}

/// The tools described in the system message, and that message without the description: the lines
/// from the first with the tag to the last.
pub(super) fn system(text: &str) -> Option<(String, Value)> {
    let start = text.find("<tools>")?;
    let mut places = text.match_indices("<tools>");
    let listed = places.find_map(|(open, tag)| {
        let inside = &text[open + tag.len()..];
        json_lines(inside[..inside.find("</tools>")?].trim())
    })?;
    let ends = ["</tools>", "</tool_call>"];
    let end = ends
        .iter()
        .filter_map(|tag| text.rfind(tag).map(|at| at + tag.len()))
        .max()?;
    let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[end..].find('\n').map_or(text.len(), |at| end + at);
    let rest = [text[..start].trim(), text[end..].trim()];
    Some((rest.join("\n\n").trim().into(), tools(listed)))
}

/// A list of tools, or one tool a line.
fn json_lines(text: &str) -> Option<Value> {
    let whole = json_in(text).filter(|value| value.is_array() || value.is_object());
    whole.or_else(|| {
        let lines: Option<Vec<Value>> = text.lines().map(json_in).collect();
        lines.filter(|lines| !lines.is_empty()).map(Value::from)
    })
}

/// The text outside of a tag, and the contents of the tag each time it occurs.
fn split<'a>(text: &'a str, tag: &str) -> Option<(String, Vec<&'a str>)> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let (mut outside, mut inside, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, after)) = rest.split_once(&open) {
        let (within, after) = after.split_once(&close)?;
        outside += before;
        inside.push(within.trim());
        rest = after;
    }
    (!inside.is_empty()).then(|| (outside + rest, inside))
}
