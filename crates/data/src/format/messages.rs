//! A row's messages, under the key names that various tools use.

use super::chat::Chat;
use super::column_names::{FLAGS, KWARGS, TOOLS};
use super::preference::value;
use super::speech::SPEAKER;
use super::tools::{set_calls, tools};
use super::{SYSTEM, as_bool, as_flag, first_text};
use crate::error::RowProblem;
use serde_json::{Map, Value, json};
use std::result::Result;

/// The roles that chat templates know.
const ROLES: [&str; 7] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "ipython",
];
/// Roles under which some files store tool calls and tool answers as separate turns.
const TOOL_CALLS: [&str; 2] = ["function_call", "tool_call"];
const TOOL_ANSWERS: [&str; 3] = ["observation", "function_response", "tool_response"];
/// Keys that may stand in place of `content`.
const MORE: [&str; 5] = [
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
];
/// Keys that exclude a message from training with 0 or false: OpenAI's and Mistral's,
/// LLaMA-Factory's, axolotl's, ms-swift's.
const MASKS: [&str; 6] = [
    "weight",
    "loss_weight",
    "train",
    "training",
    "train_on_turn",
    "loss",
];
/// Keys that say more about a message's loss than whether it is learnt.
const DETAILS: [&str; 3] = ["train_detail", "training_detail", "loss_scale"];

impl Chat {
    /// The chat in a row whose messages are in these columns; the first `given` messages are not
    /// learnt. ShareGPT's `from` and `value` are read as `role` and `content`. The column `system`
    /// becomes the first message unless there already is a system message.
    pub(crate) fn new(
        row: &Map<String, Value>,
        columns: &[&str],
        given: usize,
    ) -> Result<Self, RowProblem> {
        let mut chat = Self::default();
        for (index, column) in columns.iter().enumerate() {
            let role = match (columns.len(), index) {
                (1, _) => None,
                (_, 0) => Some("user"),
                _ => Some("assistant"),
            };
            let mut messages = messages(row, column, role)?;
            // Some files repeat the prompt in front of its completion, with the system message or
            // without it.
            let is_system = |messages: &[Value]| {
                let first = messages.first();
                first.is_some_and(|message| message["role"] == "system")
            };
            let system = usize::from(is_system(&messages) && !is_system(&chat.messages));
            if index > 0 && messages[system..].starts_with(&chat.messages) {
                chat.messages = messages.drain(..system + chat.messages.len()).collect();
                chat.given += if given > 0 { system } else { 0 };
            }
            chat.messages.append(&mut messages);
            if index < given {
                chat.given = chat.messages.len();
            }
        }
        let has_system = chat.messages.first().is_some_and(|m| m["role"] == "system");
        if let Some(system) = first_text(row, &SYSTEM)?.filter(|_| !has_system) {
            let message = json!({"role": "system", "content": system});
            chat.messages.insert(0, message);
            chat.given += usize::from(given > 0);
        }
        chat.extras = extras(row)?;
        Ok(chat)
    }

    /// Roles that chat templates are unlikely to know.
    pub(crate) fn unknown_roles(&self) -> impl Iterator<Item = &str> {
        let roles = self.messages.iter().filter_map(|m| m["role"].as_str());
        roles.filter(|role| !ROLES.contains(role))
    }

    /// Keys of messages whose weight is neither 0 nor 1.
    pub(crate) fn odd_weights(&self) -> impl Iterator<Item = &'static str> {
        let is_odd = |value: &Value| as_flag(value).is_none();
        MASKS.into_iter().filter(move |key| self.has(key, is_odd))
    }

    /// Keys of messages that concern the loss and are not read.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &'static str> {
        let details = DETAILS.into_iter().filter(|key| self.has(key, |_| true));
        let is_odd = |value: &Value| mask(value).is_none();
        details.chain(self.has("mask", is_odd).then_some("mask"))
    }

    /// Whether a message has a key with such a value.
    fn has(&self, key: &str, is: impl Fn(&Value) -> bool) -> bool {
        let values = self.messages.iter().filter_map(|m| m.get(key));
        values.filter(|value| !value.is_null()).any(is)
    }

    /// Whether a message is the assistant's and does not exclude itself from the loss.
    pub(crate) fn is_learnt(message: &Value) -> bool {
        message["role"] == "assistant" && !Self::is_masked(message)
    }

    /// Whether a message excludes itself from the loss.
    pub(crate) fn is_masked(message: &Value) -> bool {
        let mut masks = MASKS.iter().filter_map(|key| message.get(key));
        masks.any(|value| as_flag(value) == Some(false))
            || message.get("mask").and_then(mask) == Some(true)
    }
}

/// Whether `mask` hides a message from the loss. A number could be a mask or a weight, so it is not
/// read.
fn mask(value: &Value) -> Option<bool> {
    as_flag(value).filter(|_| !value.is_number())
}

/// Turns of tools under other role names, which are read as the assistant's or the tool's.
pub(crate) fn tool_turns<'a>(
    row: &'a Map<String, Value>,
    column: &str,
) -> impl Iterator<Item = &'a str> {
    let list = row.get(column).and_then(Value::as_array);
    let speakers = list.into_iter().flatten().filter_map(|message| {
        let speaker = message.get("role").or_else(|| message.get("from"));
        speaker.and_then(Value::as_str)
    });
    speakers.filter(|speaker| TOOL_CALLS.contains(speaker) || TOOL_ANSWERS.contains(speaker))
}

/// The template's variables in a row, apart from the messages.
fn extras(row: &Map<String, Value>) -> Result<Map<String, Value>, RowProblem> {
    let mut extras = Map::new();
    let read = |name: &str| row.get(name).map_or(Ok(None), |value| listed(value, name));
    for name in TOOLS {
        if let Some(value) = read(name)? {
            extras.entry("tools").or_insert(tools(value));
        }
    }
    if let Some(value) = read("documents")? {
        extras.insert("documents".into(), value);
    }
    for name in FLAGS {
        if let Some(value) = row.get(name).filter(|value| !is_nothing(value)) {
            // In a CSV file they are text, in which "false" would count as true.
            let flag = as_bool(value).map(Value::from);
            extras.insert(name.into(), flag.unwrap_or_else(|| value.clone()));
        }
    }
    match read(KWARGS)? {
        None => {}
        Some(Value::Object(more)) => {
            for (name, value) in more.into_iter().filter(|(_, value)| !value.is_null()) {
                extras.entry(name).or_insert(value);
            }
        }
        Some(_) => return Err(RowProblem::NoMapping(KWARGS.into())),
    }
    Ok(extras)
}

/// The messages of a column: a list, possibly as JSON in text; or, in a column with a fixed `role`,
/// a single message or its text.
fn messages(
    row: &Map<String, Value>,
    column: &str,
    role: Option<&str>,
) -> Result<Vec<Value>, RowProblem> {
    let value = value(row, column).unwrap_or(&Value::Null);
    let parsed = match (value, role) {
        (Value::String(text), _) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).ok()
        }
        _ => None,
    };
    let list = match (parsed.as_ref().unwrap_or(value), role) {
        (Value::Array(list), _) => list.as_slice(),
        (Value::Object(_), Some(_)) => std::slice::from_ref(value),
        (Value::String(text), Some(role)) => {
            return Ok(vec![json!({"role": role, "content": text})]);
        }
        _ => return Err(RowProblem::NoMessages(column.into())),
    };
    let message = |message: &Value| {
        let known = message.as_object().and_then(normal);
        let known = known.ok_or_else(|| RowProblem::NoRole {
            column: column.into(),
            message: message.to_string(),
        })?;
        flat(known, column)
    };
    let mut messages: Vec<Map<String, Value>> =
        list.iter().map(message).collect::<Result<_, _>>()?;
    let is_older = messages.iter_mut().map(set_calls).fold(false, |a, b| a | b);
    for message in &mut messages {
        // The answer to a call in OpenAI's older format.
        if is_older && message["role"] == "function" {
            message.insert("role".into(), "tool".into());
        }
    }
    Ok(messages.into_iter().map(Value::from).collect())
}

/// A message whose role has the name that templates use.
fn normal(message: &Map<String, Value>) -> Option<Map<String, Value>> {
    let text = |key: &str| message.get(key).and_then(Value::as_str);
    let speaker = text("role").or_else(|| text("from"))?;
    let mut known = Map::from_iter([("role".to_owned(), role(speaker).into())]);
    if TOOL_CALLS.contains(&speaker.to_lowercase().as_str()) {
        known.insert(SPEAKER.into(), speaker.into());
    }
    let content = message.get("content").or_else(|| message.get("value"));
    if text("role").is_none() || content.is_some() {
        known.insert("content".into(), content?.clone());
    }
    let others = message
        .iter()
        .filter(|(key, value)| *key != "from" && *key != "value" && !value.is_null());
    for (key, value) in others {
        known.entry(key).or_insert_with(|| value.clone());
    }
    Some(known)
}

fn role(name: &str) -> String {
    let lower = name.to_lowercase();
    match lower.as_str() {
        "human" => "user",
        "gpt" | "model" | "chatgpt" | "bing" | "bard" | "bot" | "ai" => "assistant",
        lower if TOOL_CALLS.contains(&lower) => "assistant",
        lower if TOOL_ANSWERS.contains(&lower) => "tool",
        lower if ROLES.contains(&lower) => lower,
        _ => name,
    }
    .into()
}

/// Whether a key is present without a value.
fn is_nothing(value: &Value) -> bool {
    let is_empty = value.as_array().is_some_and(Vec::is_empty) || value == "";
    is_empty || value.is_null()
}

/// The message with its content as one text, if it is a list of parts.
fn flat(mut message: Map<String, Value>, column: &str) -> Result<Map<String, Value>, RowProblem> {
    let says_more = |key: &str| message.get(key).is_some_and(|more| !is_nothing(more));
    match message.get("content") {
        Some(Value::Null) if MORE.iter().any(|key| says_more(key)) => {
            message.insert("content".into(), "".into());
        }
        Some(content @ (Value::Null | Value::Bool(_) | Value::Object(_))) => {
            return Err(RowProblem::NoContent {
                content: content.to_string(),
                column: column.into(),
            });
        }
        _ => {}
    }
    if let Some(Value::Array(parts)) = message.get("content") {
        let (mut content, mut reasoning) = (String::new(), String::new());
        for part in parts {
            let kind = part.get("type").and_then(Value::as_str);
            let keys = ["text", "value"].into_iter().chain(kind);
            let text = keys.filter_map(|key| part.get(key)).next();
            match (text.unwrap_or(part), kind) {
                (Value::String(text), None | Some("text")) => content += text,
                (Value::String(text), Some("thinking" | "reasoning")) => reasoning += text,
                (_, kind) => {
                    return Err(RowProblem::Part {
                        kind: kind.unwrap_or("unknown").into(),
                        column: column.into(),
                    });
                }
            }
        }
        message.insert("content".into(), content.into());
        if !reasoning.is_empty() {
            message.insert("reasoning_content".into(), reasoning.into());
        }
    }
    Ok(message)
}

/// A variable for the template, which some files hold as JSON in text; `None` if it is empty.
fn listed(value: &Value, name: &str) -> Result<Option<Value>, RowProblem> {
    let value = match value {
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => {
            serde_json::from_str(text).map_err(|error| RowProblem::TextOfJson {
                column: name.into(),
                error: error.to_string(),
            })?
        }
        value => value.clone(),
    };
    let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    Ok((!is_empty).then_some(value))
}
