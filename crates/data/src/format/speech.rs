//! Rewriting a chat into what its chat template can express: tool calls and reasoning.

use super::chat::Chat;
use super::columns::Note;
use super::tags;
use super::tools::{calls_in, set_arguments};
use serde_json::{Map, Value};

/// The keys under which a message may hold its reasoning.
pub(crate) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// The tool calls of a message.
pub(crate) const CALLS: &str = "tool_calls";
/// Marks a message whose text is a call; its value is the original role.
pub(super) const SPEAKER: &str = "from";

/// What a chat template can express.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speech {
    /// `tool_calls` of a message.
    pub calls: bool,
    /// Calls written as Hermes does, as JSON inside `<tool_call>`.
    pub has_tags: bool,
    /// Tool answers inside `<tool_response>`.
    pub has_response_tags: bool,
    /// Calls only in messages that have no content; an empty content is not enough.
    pub null_content: bool,
    /// Calls whose arguments are text.
    pub text_arguments: bool,
    /// `tools`.
    pub tools: bool,
    /// The reasoning of a message.
    pub reasoning: bool,
}

impl Chat {
    /// Whether the chat has nothing that templates express in different ways.
    pub(crate) fn is_plain(&self) -> bool {
        let keys = [CALLS, SPEAKER].into_iter().chain(REASONING);
        let is_plain = |message: &Value| {
            let text = message["content"].as_str().unwrap_or_default();
            let mut keys = keys.clone();
            !keys.any(|key| message.get(key).is_some()) && !text.contains("<tool")
        };
        !self.extras.contains_key("tools") && self.messages.iter().all(is_plain)
    }

    /// Rewrites the chat for a template; returns what the template cannot express. The number of
    /// messages may grow.
    pub(crate) fn fit(&mut self, speech: &Speech) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut given = self.given;
        let mut fitted = Vec::new();
        let has_tools = self.extras.contains_key("tools");
        for (index, message) in std::mem::take(&mut self.messages).into_iter().enumerate() {
            let Value::Object(mut message) = message else {
                fitted.push(message);
                continue;
            };
            let before = fitted.len();
            match message.get("role").and_then(Value::as_str) {
                Some("assistant") => {
                    fit_calls(&mut message, speech);
                    let is_lost = !speech.calls && message.contains_key(CALLS);
                    notes.extend(is_lost.then(|| Note::Unsaid(CALLS.into())));
                    notes.extend(lost_reasoning(&message, speech));
                    fitted.push(message.into());
                }
                Some("tool") if speech.calls && (!speech.has_tags || speech.has_response_tags) => {
                    fitted.extend(responses(message));
                }
                Some("system")
                    if speech.tools && speech.calls && (!speech.has_tags || has_tools) =>
                {
                    if let Some((said, tools)) = tags::system(text(&message)) {
                        self.extras.entry("tools").or_insert(tools);
                        message.insert("content".into(), said.as_str().into());
                        fitted.extend((!said.is_empty()).then(|| message.into()));
                    } else {
                        fitted.push(message.into());
                    }
                }
                _ => fitted.push(message.into()),
            }
            if index < self.given {
                given = given + fitted.len() - before - 1;
            }
        }
        self.messages = fitted;
        self.given = given;
        if self.extras.contains_key("tools") && !speech.tools {
            notes.push(Note::Unsaid("tools".into()));
        }
        notes
    }

    /// Whether a learnt answer has this key.
    pub(crate) fn learns(&self, key: &str) -> bool {
        let mut answers = self.answers();
        answers.any(|(_, answer)| answer.get(key).is_some() && Self::is_learnt(answer))
    }
}

fn text(message: &Map<String, Value>) -> &str {
    let content = message.get("content").and_then(Value::as_str);
    content.unwrap_or_default()
}

/// Turns calls in the text into `tool_calls`, unless the template writes such text itself.
fn fit_calls(message: &mut Map<String, Value>, speech: &Speech) {
    let is_call = message.remove(SPEAKER).is_some();
    if speech.calls && !message.contains_key(CALLS) {
        let text = text(message);
        let alone = is_call.then(|| calls_in(text)).flatten();
        let found = match alone {
            Some(calls) => Some((String::new(), calls)),
            None if speech.has_tags => None,
            None => tags::calls(text),
        };
        if let Some((said, calls)) = found {
            message.insert("content".into(), said.into());
            message.insert(CALLS.into(), calls.into());
        }
    }
    if speech.null_content && message.contains_key(CALLS) && text(message).is_empty() {
        message.insert("content".into(), Value::Null);
    }
    let calls = message.get_mut(CALLS).and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        set_arguments(call, speech.text_arguments);
    }
}

/// A note about the reasoning of a message, if the template cannot express reasoning.
fn lost_reasoning(message: &Map<String, Value>, speech: &Speech) -> Option<Note> {
    let is_said = |name: &&str| {
        let said = message.get(*name).and_then(Value::as_str);
        said.is_some_and(|said| !said.trim().is_empty())
    };
    let name = REASONING.into_iter().find(is_said)?;
    (!speech.reasoning).then(|| Note::Unsaid(name.into()))
}

/// Splits a message that holds the answers of several tools into one message each, without the
/// tags.
fn responses(message: Map<String, Value>) -> Vec<Value> {
    let Some(said) = tags::responses(text(&message)) else {
        return vec![message.into()];
    };
    let said = said.into_iter().map(|said| {
        let mut message = message.clone();
        message.insert("content".into(), said.into());
        message.into()
    });
    said.collect()
}
