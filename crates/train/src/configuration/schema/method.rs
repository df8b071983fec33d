//! The schema of `[peft]`. To find out what a key takes, values are tried on the method's reader.

use burn_peft::LoraConfig;
use burn_peft::methods::{config_with_key, default_config, key_doc, known_keys, peft_types};
use serde_json::{Map, Value, json};

/// A schema for each method, and one for training all weights.
pub fn all() -> Vec<Value> {
    let mut methods: Vec<Value> = peft_types().iter().map(|name| of(name)).collect();
    // The reader accepts the word in any case, and ignores all other keys.
    methods.push(json!({
        "title": "all weights",
        "type": "object",
        "properties": {
            "peft_type": { "anyOf": [
                { "const": "NONE" },
                { "type": "string", "pattern": "^[Nn][Oo][Nn][Ee]$" },
            ] },
        },
        "required": ["peft_type"],
        "additionalProperties": {
            "description": "Ignored: with peft_type = \"NONE\" all weights are trained, and there is \
                            no adapter.",
        },
    }));
    methods
}

fn of(method: &str) -> Value {
    let defaults = default_config(method).map(|config| config.to_json());
    let defaults = defaults.unwrap_or_default();
    let mut properties = Map::new();
    properties.insert("peft_type".into(), json!({ "const": method }));
    for key in known_keys(method).unwrap_or_default() {
        if key != "peft_type" {
            let default = defaults.get(&key).filter(|value| !value.is_null());
            properties.insert(key.clone(), value_of(method, &key, default));
        }
    }
    // A table without `peft_type` is LoRA's.
    let is_implied = method == LoraConfig::PEFT_TYPE;
    let required = if is_implied {
        json!([])
    } else {
        json!(["peft_type"])
    };
    json!({
        "title": method,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The schema of a key: the types of the values that its reader accepts, and its default.
fn value_of(method: &str, key: &str, default: Option<&Value>) -> Value {
    let takes = |value: &Value| matches!(config_with_key(method, key, value.clone()), Some(Ok(_)));
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, value) in tried() {
        if !kinds.contains(&kind) && takes(&value) {
            kinds.push(kind);
        }
    }
    // The reader may accept none of the tried values of this type.
    if let Some(kind) = default.map(kind_of)
        && !kinds.contains(&kind)
    {
        kinds.push(kind);
    }
    let words: Vec<Value> = words_of(method, key)
        .into_iter()
        .filter(|word| takes(&word.as_str().into()))
        .map(|word| as_schema(&word, &takes))
        .collect();
    if kinds.contains(&"number") {
        kinds.retain(|kind| *kind != "integer");
    }
    let mut schema = Map::new();
    if let Some(doc) = key_doc(method, key) {
        schema.insert("description".into(), doc.into());
    } else if default_config(method).is_some_and(|c| c.optional_keys().contains(&key)) {
        let off = "For a feature of PEFT that is not supported here: leave the key out.";
        schema.insert("description".into(), off.into());
    }
    if kinds.contains(&"integer") && !takes(&json!(-1)) {
        let least = i32::from(!takes(&json!(0)));
        schema.insert("minimum".into(), least.into());
    }
    let items: Vec<&str> = [("string", json!(["name"])), ("integer", json!([1]))]
        .into_iter()
        .filter_map(|(kind, list)| takes(&list).then_some(kind))
        .collect();
    if kinds.contains(&"array") && !items.is_empty() {
        schema.insert("items".into(), json!({ "type": items }));
    }
    if !words.is_empty() {
        kinds.retain(|kind| *kind != "string");
        let mut any = words;
        any.extend(kinds.iter().map(|kind| json!({ "type": kind })));
        schema.insert("anyOf".into(), any.into());
    } else if !kinds.is_empty() {
        schema.insert("type".into(), json!(kinds));
    }
    if let Some(default) = default {
        schema.insert("default".into(), default.clone());
    }
    Value::Object(schema)
}

/// The schema of a word that a key accepts: a pattern if the word ends in a number and the key
/// accepts any other number too.
fn as_schema(word: &str, takes: &impl Fn(&Value) -> bool) -> Value {
    let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_any = stem != word && takes(&format!("{stem}17").into());
    if is_any {
        json!({ "type": "string", "pattern": format!("^{stem}[0-9]+$") })
    } else {
        json!({ "const": word })
    }
}

/// Values of every type, several of each because a key may refuse one for its size.
fn tried() -> Vec<(&'static str, Value)> {
    vec![
        ("boolean", json!(true)),
        ("boolean", json!(false)),
        ("integer", json!(1)),
        ("integer", json!(2)),
        ("integer", json!(8)),
        ("number", json!(0.5)),
        ("number", json!(1.5)),
        ("string", json!("name")),
        ("string", json!("all")),
        ("string", json!("none")),
        ("array", json!(["name"])),
        ("array", json!([1])),
        ("object", json!({})),
        ("object", json!({ "name": 1 })),
        ("object", json!({ "name": [1] })),
    ]
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        _ => "object",
    }
}

/// The words that a key accepts: the error for another word has them in backticks or quotation
/// marks.
fn words_of(method: &str, key: &str) -> Vec<String> {
    let refused = config_with_key(method, key, "no such word".into()).and_then(Result::err);
    let message = refused.map(|error| error.to_string()).unwrap_or_default();
    let of = |mark| message.split(mark).skip(1).step_by(2).map(str::to_string);
    of('`').chain(of('"')).collect()
}
