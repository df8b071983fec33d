//! Renders chats under templates, as JSON lines, for `benches/templates/run` to compare with
//! transformers.
//!
//! A line of standard input is an object with `template`, `special_tokens`, `messages`, `extras`
//! and `add_generation_prompt`. The answer is an object with the `text` or the `error`. If
//! `answers` is true, it also has the `spans`, the bytes that training learns, or `left_out` if
//! they cannot be told.

use burn_peft_data::{Chat, ChatTemplate, TemplateProblem};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::{BufWriter, Write};

/// The answer to a line.
fn answer(case: &Value) -> Result<Value, TemplateProblem> {
    let map = |key: &str| case[key].as_object().cloned().unwrap_or_default();
    let source = case["template"].as_str().unwrap_or_default();
    let template = ChatTemplate::new(source, "trl", map("special_tokens"))?;
    let messages = case["messages"].as_array().cloned().unwrap_or_default();
    let extras: Map<String, Value> = map("extras");
    if case["answers"] == true {
        let chat = Chat {
            messages,
            extras,
            ..Chat::default()
        };
        let (text, spans) = template.answers(&chat)?;
        let spans: Vec<_> = spans.iter().map(|span| [span.start, span.end]).collect();
        return Ok(json!({"text": text, "spans": spans}));
    }
    let prompt = case["add_generation_prompt"] == true;
    let text = template.render(&messages, &extras, prompt)?;
    Ok(json!({"text": text}))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lines() {
        let case = serde_json::from_str(&line?)?;
        let answer = answer(&case).unwrap_or_else(|problem| {
            let left_out = matches!(problem, TemplateProblem::MessageChangesOthers(_));
            json!({"error": problem.to_string(), "left_out": left_out})
        });
        writeln!(out, "{answer}")?;
    }
    Ok(out.flush()?)
}
