//! `{% generation %}`, transformers' own tag around what the assistant says.

use crate::error::TemplateProblem;
use std::fmt::Write as _;
use std::ops::Range;

/// Mark where `{% generation %}` begins and ends in the rendered text: private-use characters.
pub(super) const BEGIN: char = '\u{f5e51}';
pub(super) const END: char = '\u{f5e52}';

/// Text without the marks, and the ranges that were between them.
pub(super) fn unmark(marked: &str) -> Result<(String, Vec<Range<usize>>), TemplateProblem> {
    let (mut text, mut spans, mut start) = (String::new(), Vec::new(), None);
    for character in marked.chars() {
        match (character, start) {
            (BEGIN, None) => start = Some(text.len()),
            (END, Some(begin)) => {
                spans.push(begin..text.len());
                start = None;
            }
            (BEGIN | END, _) => {
                return Err(TemplateProblem::NestedGeneration);
            }
            (character, _) => text.push(character),
        }
    }
    Ok((text, spans))
}

/// Replaces `{% generation %}` and `{% endgeneration %}`, which are transformers' additions to
/// Jinja, by marks in the text. White space control (`{%-`) keeps its effect, and variables set
/// inside stay local.
pub(super) fn mark_generation(source: &str) -> String {
    let (mut marked, mut rest) = (String::new(), source);
    while let Some(open) = rest.find("{%") {
        let Some(close) = rest[open + 2..].find("%}").map(|close| open + close + 4) else {
            break;
        };
        let tag = &rest[open + 2..close - 2];
        let left = if tag.starts_with('-') { "-" } else { "" };
        let right = if tag.ends_with('-') { "-" } else { "" };
        marked += &rest[..open];
        match tag.trim_matches(['-', '+']).trim() {
            "generation" => {
                let _ = write!(marked, "{{%{left} with %}}{BEGIN}{{% if true {right}%}}");
            }
            "endgeneration" => {
                let _ = write!(marked, "{{%{left} endif %}}{END}{{% endwith {right}%}}");
            }
            _ => marked += &rest[open..close],
        }
        rest = &rest[close..];
    }
    marked + rest
}
