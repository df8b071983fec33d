//! `--messages FILE`: conversations to answer.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn_peft_data::{Chat, Content, Row, Shape};
use burn_peft_files::read_text;
use serde_json::{Map, Value, json};

/// The columns that a conversation can be in.
const COLUMNS: [&str; 2] = ["messages", "conversations"];

/// The conversations in a file or on standard input (`-`): one as a JSON list of messages, or
/// several as rows with `messages`, one on each line or in a JSON list.
pub fn read(path: &Path) -> Result<Vec<Chat>> {
    if path.as_os_str() != "-" {
        return parse(&read_text(path)?, &path.display().to_string());
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.context("cannot read standard input")?;
    parse(&text, "standard input")
}

/// The conversations in a text; `name` is its name in errors.
fn parse(text: &str, name: &str) -> Result<Vec<Chat>> {
    let text = text.trim();
    ensure!(!text.is_empty(), "{name} is empty: give messages as JSON");
    match serde_json::from_str(text) {
        Ok(value) => whole(value, name),
        Err(error) => {
            // Several objects are JSONL, but half a list is not.
            let first = text.lines().next().unwrap_or_default();
            if serde_json::from_str::<Value>(first).is_err() {
                bail!("{name} is not JSON: {error}");
            }
            let lines = text.lines().enumerate();
            let lines = lines.filter(|(_, line)| !line.trim().is_empty());
            let each = lines.map(|(index, line)| {
                let place = format!("{name} line {}", index + 1);
                let value = serde_json::from_str(line);
                let value = value.with_context(|| format!("{place} is not JSON"))?;
                conversation(value, index + 1, &place)
            });
            each.collect()
        }
    }
}

/// The conversations in one JSON value.
fn whole(value: Value, name: &str) -> Result<Vec<Chat>> {
    let is_message = |value: &Value| value.get("role").or(value.get("from")).is_some();
    match value {
        Value::Array(list) if !list.is_empty() && !is_message(&list[0]) => {
            let each = (1..).zip(list).map(|(number, value)| {
                conversation(value, number, &format!("{name} conversation {number}"))
            });
            each.collect()
        }
        value => Ok(vec![conversation(value, 1, name)?]),
    }
}

/// A conversation for the assistant to answer: a list of messages, or a row with one.
fn conversation(value: Value, number: usize, place: &str) -> Result<Chat> {
    let columns = match value {
        Value::Object(columns) => columns,
        list => Map::from_iter([(COLUMNS[0].to_owned(), list)]),
    };
    let column = COLUMNS.into_iter().find(|name| columns.contains_key(*name));
    let column = column.with_context(|| {
        format!("{place} has no `messages`, a list of objects with `role` and `content`")
    })?;
    let content = Shape::Messages(column.into()).read(&Row { number, columns }, place)?;
    let Content::Chat(chat) = content else {
        bail!("{place} holds no messages");
    };
    let last = chat.messages.last();
    let last =
        last.with_context(|| format!("{place} has no message: there is nothing to answer"))?;
    ensure!(
        last["role"] != "assistant",
        "{place} ends with the assistant's answer: leave it out and it is answered again; `peft eval \
         --generate` compares answers with those that are there"
    );
    Ok(chat)
}

/// The chat with the system message before it, unless it has one.
pub fn with_system(mut chat: Chat, system: Option<&str>) -> Chat {
    let has_system = |first: &Value| matches!(first["role"].as_str(), Some("system" | "developer"));
    if let Some(system) = system.filter(|_| !chat.messages.first().is_some_and(has_system)) {
        let message = json!({ "role": "system", "content": system });
        chat.messages.insert(0, message);
    }
    chat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(content: &str) -> Value {
        json!({ "role": "user", "content": content })
    }

    #[test]
    fn a_list_is_one_conversation_and_rows_are_several() {
        let (a, b) = (user("a"), user("b"));
        let row = |message: &Value| json!({ "messages": [message] });
        let shared = json!({ "conversations": [{ "from": "human", "value": "b" }] });
        let tools = json!({ "messages": [a], "tools": [{ "type": "function" }] });
        let several = [vec![a.clone()], vec![b.clone()]];
        for (text, expected) in [
            (json!([a, b]).to_string(), vec![vec![a.clone(), b.clone()]]),
            (
                format!("{:#}", json!([a, b])),
                vec![vec![a.clone(), b.clone()]],
            ),
            (
                json!({ "messages": [a] }).to_string(),
                several[..1].to_vec(),
            ),
            (format!("{}\n\n{shared}\n", row(&a)), several.to_vec()),
            (json!([row(&a), row(&b)]).to_string(), several.to_vec()),
            (
                format!("{}\n{}\n", json!([a]), json!([b])),
                several.to_vec(),
            ),
            (json!([[a], [b]]).to_string(), several.to_vec()),
            (tools.to_string(), several[..1].to_vec()),
        ] {
            let found = parse(&text, "a.json").unwrap();
            let messages: Vec<_> = found.iter().map(|chat| chat.messages.clone()).collect();
            assert_eq!(messages, expected, "{text}");
        }
        let found = parse(&tools.to_string(), "a.json").unwrap();
        assert_eq!(found[0].extras["tools"], tools["tools"]);
    }

    #[test]
    fn what_is_no_conversation_is_named_with_its_place() {
        let said = json!([user("a"), { "role": "assistant", "content": "b" }]);
        for (text, named) in [
            ("", "a.json is empty"),
            ("[\n{\"role\": ", "a.json is not JSON: EOF while parsing"),
            ("{\"messages\": []}\n{", "a.json line 1 has no message"),
            ("[]", "a.json has no message"),
            ("5", "a.json has no list of messages in `messages`"),
            ("{\"text\": \"a\"}", "a.json has no `messages`"),
            (
                "[{\"role\": \"user\", \"content\": \"a\"}]\n{",
                "a.json line 2 is not JSON",
            ),
            (&said.to_string(), "a.json ends with the assistant's answer"),
            (
                &json!([[user("a")], said]).to_string(),
                "conversation 2 ends with",
            ),
        ] {
            let error = format!("{:#}", parse(text, "a.json").unwrap_err());
            assert!(error.contains(named), "{named:?} is not in {error}");
        }
    }

    #[test]
    fn a_system_message_is_put_where_there_is_none() {
        let chat = |messages: &[Value]| Chat {
            messages: messages.to_vec(),
            ..Chat::default()
        };
        let system = |content: &str| json!({ "role": "system", "content": content });
        let found = with_system(chat(&[user("a")]), Some("b"));
        assert_eq!(found.messages, [system("b"), user("a")]);
        let found = with_system(chat(&[system("c"), user("a")]), Some("b"));
        assert_eq!(found.messages, [system("c"), user("a")]);
        assert_eq!(with_system(chat(&[user("a")]), None), chat(&[user("a")]));
    }
}
