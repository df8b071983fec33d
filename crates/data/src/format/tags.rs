//! The tags of Hermes, by which tools, calls and answers stand in the text of messages.

use super::tools::{calls_in, json_in, tools};
use serde_json::Value;

/// The words of a message outside of `<tool_call>`, and the calls in it; none where there are none,
/// or one cannot be read.
pub(super) fn calls(text: &str) -> Option<(String, Vec<Value>)> {
    let (outside, inside) = split(text, "tool_call")?;
    let calls: Option<Vec<_>> = inside.into_iter().map(calls_in).collect();
    Some((outside.trim().into(), calls?.concat()))
}

/// All calls in tags of a text, whatever else stands in tags there.
pub(crate) fn calls_in_tags(text: &str) -> Vec<Value> {
    let inside = split(text, "tool_call").map(|(_, inside)| inside);
    let calls = inside.into_iter().flatten().filter_map(calls_in);
    calls.flatten().collect()
}

/// What tools have answered, where a message is that and nothing else.
pub(super) fn responses(text: &str) -> Option<Vec<&str>> {
    let (outside, inside) = split(text, "tool_response")?;
    outside.trim().is_empty().then_some(inside)
}

/// The tools in the system's words, and those words without what they say of tools: the lines from
/// the first that has the tag to the last.
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

/// A list of tools, or a tool a line.
fn json_lines(text: &str) -> Option<Value> {
    let whole = json_in(text).filter(|value| value.is_array() || value.is_object());
    whole.or_else(|| {
        let lines: Option<Vec<Value>> = text.lines().map(json_in).collect();
        lines.filter(|lines| !lines.is_empty()).map(Value::from)
    })
}

/// The text outside of a tag, and what stands in it each time.
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
