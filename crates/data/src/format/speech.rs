//! A chat in the words that a chat template has for calls of tools and for reasoning.

use super::chat::Chat;
use super::columns::Note;
use super::tags;
use super::tools::{calls_in, set_arguments};
use serde_json::{Map, Value};

/// The names under which a message may have its reasoning.
pub(crate) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// The calls of a message.
pub(crate) const CALLS: &str = "tool_calls";
/// Stays in a message whose text is a call: the role that says so.
pub(super) const SPEAKER: &str = "from";

/// What a chat template has words for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speech {
    /// It says the `tool_calls` of a message.
    pub calls: bool,
    /// It says them as Hermes does, in `<tool_call>` with JSON inside.
    pub has_tags: bool,
    /// It puts what tools answer in `<tool_response>`.
    pub has_response_tags: bool,
    /// It says calls only where a message has no content, not where that is empty.
    pub null_content: bool,
    /// It wants the arguments of a call as text.
    pub text_arguments: bool,
    /// It says `tools`.
    pub tools: bool,
    /// It says the reasoning of a message.
    pub reasoning: bool,
}

impl Chat {
    /// Whether it says nothing that templates have different words for.
    pub(crate) fn is_plain(&self) -> bool {
        let keys = [CALLS, SPEAKER].into_iter().chain(REASONING);
        let is_plain = |message: &Value| {
            let text = message["content"].as_str().unwrap_or_default();
            let mut keys = keys.clone();
            !keys.any(|key| message.get(key).is_some()) && !text.contains("<tool")
        };
        !self.extras.contains_key("tools") && self.messages.iter().all(is_plain)
    }

    /// Says the same in a template's words; returns what it has none for. Messages may become more.
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

    /// Whether an answer that is learnt has such a key.
    pub(crate) fn learns(&self, key: &str) -> bool {
        let mut answers = self.answers();
        answers.any(|(_, answer)| answer.get(key).is_some() && Self::is_learnt(answer))
    }
}

fn text(message: &Map<String, Value>) -> &str {
    let content = message.get("content").and_then(Value::as_str);
    content.unwrap_or_default()
}

/// Calls that stand in the text become `tool_calls`, unless the template writes that text itself.
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

/// The reasoning of a message, where the template has no name for it.
fn lost_reasoning(message: &Map<String, Value>, speech: &Speech) -> Option<Note> {
    let is_said = |name: &&str| {
        let said = message.get(*name).and_then(Value::as_str);
        said.is_some_and(|said| !said.trim().is_empty())
    };
    let name = REASONING.into_iter().find(is_said)?;
    (!speech.reasoning).then(|| Note::Unsaid(name.into()))
}

/// A message for each answer of a tool that stands in a message, without tags around it.
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
