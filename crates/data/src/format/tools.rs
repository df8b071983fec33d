//! Tools and tool calls, converted to the form of OpenAI's API.

use serde_json::{Map, Value, json};

/// The tools of a row as a list of objects of type `function`. Also accepts a list of bare
/// functions, and JSON in text.
pub(super) fn tools(value: Value) -> Value {
    let tool = |tool: Value| {
        let tool = match &tool {
            Value::String(text) => object_in(text).unwrap_or(tool),
            _ => tool,
        };
        let is_bare = tool.get("name").is_some() && tool.get("function").is_none();
        if is_bare && tool.get("type").is_none_or(|kind| kind != "function") {
            json!({"type": "function", "function": tool})
        } else {
            tool
        }
    };
    match value {
        Value::Array(tools) => tools.into_iter().map(tool).collect(),
        Value::Object(_) => vec![tool(value)].into(),
        other => other,
    }
}

/// Moves a message's calls into `tool_calls`, including OpenAI's older `function_call`. Returns
/// true if it was that.
pub(super) fn set_calls(message: &mut Map<String, Value>) -> bool {
    let listed = match message.remove("tool_calls") {
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        other => other,
    };
    let listed = match listed {
        Some(Value::Array(calls)) if !calls.is_empty() => Some(calls),
        Some(call @ Value::Object(_)) => Some(vec![call]),
        _ => None,
    };
    let older = match message.get("function_call") {
        Some(Value::String(text)) => object_in(text).as_ref().and_then(call),
        Some(value) => call(value),
        None => None,
    };
    if older.is_some() {
        message.remove("function_call");
    }
    let is_older = listed.is_none() && older.is_some();
    let listed = listed.or_else(|| older.map(|call| vec![call]));
    if let Some(calls) = listed {
        let calls = calls.into_iter().map(|value| call(&value).unwrap_or(value));
        message.insert("tool_calls".into(), calls.collect());
    }
    is_older
}

/// One call or several, as JSON in text: a ShareGPT turn.
pub(super) fn calls_in(text: &str) -> Option<Vec<Value>> {
    match json_in(text)? {
        Value::Array(calls) if !calls.is_empty() => calls.iter().map(call).collect(),
        value => call(&value).map(|call| vec![call]),
    }
}

/// A call with its function under `function`, where it may be already.
fn call(value: &Value) -> Option<Value> {
    let object = value.as_object()?;
    if object.get("function").is_some_and(Value::is_object) {
        return Some(value.clone());
    }
    let name = object.get("name")?.as_str()?;
    let arguments = object
        .get("arguments")
        .or_else(|| object.get("parameters"))?;
    let mut call = Map::new();
    if let Some(id) = object.get("id") {
        call.insert("id".into(), id.clone());
    }
    call.insert("type".into(), "function".into());
    let function = json!({"name": name, "arguments": arguments});
    call.insert("function".into(), function);
    Some(call.into())
}

/// The arguments of a call as templates want them: an object, parsed if they are JSON in text; or
/// with `as_text` the text.
pub(super) fn set_arguments(call: &mut Value, as_text: bool) {
    let Some(arguments) = call.pointer_mut("/function/arguments") else {
        return;
    };
    let set = match arguments {
        Value::Null => Some(Map::new().into()),
        Value::String(text) if text.trim().is_empty() => Some(Map::new().into()),
        Value::String(text) if !as_text => object_in(text),
        _ => None,
    };
    if let Some(object) = set {
        *arguments = object;
    }
    if as_text && arguments.is_object() {
        *arguments = spaced(arguments).into();
    }
}

/// JSON with a space after commas and colons, as templates and Python write it.
fn spaced(value: &Value) -> String {
    let join = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", join(items.iter().map(spaced).collect())),
        Value::Object(items) => {
            let item = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), spaced(value))
            };
            format!("{{{}}}", join(items.iter().map(item).collect()))
        }
        other => other.to_string(),
    }
}

fn object_in(text: &str) -> Option<Value> {
    let value: Option<Value> = serde_json::from_str(text).ok();
    value.filter(Value::is_object)
}

/// Parses JSON in text, or the same as Python prints it: `{'a': None}`.
pub(super) fn json_in(text: &str) -> Option<Value> {
    let read = |text: &str| serde_json::from_str(text).ok();
    read(text).or_else(|| read(&from_python(text)?))
}

/// Python's `repr` of lists, dictionaries, texts and numbers, converted to JSON; `None` if it is
/// something else.
fn from_python(text: &str) -> Option<String> {
    let (mut json, mut characters) = (String::new(), text.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' => {
                let mut said = String::new();
                loop {
                    match characters.next()? {
                        end if end == character => break,
                        '\\' => match characters.next()? {
                            'n' => said.push('\n'),
                            't' => said.push('\t'),
                            'r' => said.push('\r'),
                            same @ ('\\' | '\'' | '"') => said.push(same),
                            _ => return None,
                        },
                        other => said.push(other),
                    }
                }
                json += &Value::from(said).to_string();
            }
            letter if letter.is_ascii_alphabetic() => {
                let mut word = String::from(letter);
                while let Some(next) = characters.next_if(char::is_ascii_alphabetic) {
                    word.push(next);
                }
                json += match word.as_str() {
                    "True" => "true",
                    "False" => "false",
                    "None" => "null",
                    _ => return None,
                };
            }
            other => json.push(other),
        }
    }
    Some(json)
}
