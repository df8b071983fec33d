//! Finding out what a chat template can express, from what it renders for a chat that uses
//! everything.

use crate::format::{REASONING, Speech, calls_in_tags};
use crate::tokenizer::chat::ChatTemplate;
use serde_json::{Map, Value, json};

/// A described tool, a called tool, and the arguments of the call.
const TOOL: &str = "probe_tool";
const CALLED: &str = "probe_call";
const VALUE: &str = "probe_value";

impl ChatTemplate {
    /// What the template can express. If it rejects the chat, the names in its source decide.
    pub(crate) fn speech(&self) -> Speech {
        let (source, _) = self.identity();
        let reasoning = REASONING.into_iter().any(|name| reads(source, name));
        let object = json!({"key": VALUE});
        let text = Value::from(object.to_string());
        let empty = Value::from("");
        let ways = [
            (&empty, &object),
            (&empty, &text),
            (&Value::Null, &object),
            (&Value::Null, &text),
        ];
        // A dictionary written as Python does is not JSON.
        let says = |text: &String| text.contains(CALLED) && !text.contains("{'key'");
        let found = ways.into_iter().find_map(|(content, arguments)| {
            let rendered = self.called_with(content, arguments).filter(says)?;
            Some((rendered, content.is_null(), arguments.is_string()))
        });
        let found = found.or_else(|| Some((self.called_with(&empty, &object)?, false, false)));
        let Some((rendered, null_content, text_arguments)) = found else {
            return Speech {
                calls: mentions(source, "tool_calls"),
                tools: mentions(source, "tools"),
                reasoning,
                ..Speech::default()
            };
        };
        let is_ours =
            |call: &Value| call["function"] == json!({"name": CALLED, "arguments": object});
        Speech {
            calls: rendered.contains(CALLED),
            has_tags: calls_in_tags(&rendered).iter().any(is_ours),
            has_response_tags: rendered.contains("<tool_response>"),
            null_content,
            text_arguments,
            tools: rendered.contains(TOOL),
            reasoning,
        }
    }

    /// The text of a chat in which a tool is called with these arguments.
    fn called_with(&self, content: &Value, arguments: &Value) -> Option<String> {
        let parameters = json!({
            "type": "object", "properties": {"key": {"type": "string", "description": "A key."}},
            "required": ["key"],
        });
        let tool = json!({"type": "function", "function": {
            "name": TOOL, "description": "A tool.", "parameters": parameters,
        }});
        // Mistral's templates want nine letters or digits.
        let id = "probe0001";
        let call = json!({"id": id, "type": "function", "function": {
            "name": CALLED, "arguments": arguments,
        }});
        let messages = [
            json!({"role": "user", "content": "a"}),
            json!({"role": "assistant", "content": content, "tool_calls": [call]}),
            json!({"role": "tool", "content": "b", "name": CALLED, "tool_call_id": id}),
        ];
        let extras = Map::from_iter([("tools".to_owned(), json!([tool]))]);
        self.written(&messages, &extras, false).ok()
    }
}

/// Whether a template contains a name as a word of its own.
fn mentions(source: &str, name: &str) -> bool {
    places(source, name).next().is_some()
}

/// Whether a template reads a key: `message.name`, `message['name']`.
fn reads(source: &str, name: &str) -> bool {
    places(source, name).any(|at| source[..at].ends_with(['.', '\'', '"']))
}

fn places<'a>(source: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    let places = source.match_indices(name).map(|(at, _)| at);
    places.filter(move |&at| {
        let (before, after) = (&source[..at], &source[at + name.len()..]);
        !before.ends_with(is_inside) && !after.starts_with(is_inside)
    })
}
