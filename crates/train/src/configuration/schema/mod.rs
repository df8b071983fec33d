//! The JSON Schema of a training file, with which editors complete and check it.
//!
//! It is derived from the types that read the file, so a new key appears in it at once.

mod method;
mod words;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::configuration::config::TrainConfig;

/// The JSON Schema of a training file, in draft 7, which language servers for TOML support.
/// `[peft]` has the keys of every registered method.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<TrainConfig>().to_value();
    add_aliases(&mut schema);
    words::plain(&mut schema);
    schema
}

/// The schema of a key that takes a value or a list of values.
pub(crate) fn one_or_several<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
}

/// The schema of `[peft]`: that of any method.
pub(crate) fn peft_table(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "A new adapter: the keys of PEFT's adapter_config.json. With peft_type = \"NONE\" \
                        all weights of the model are trained instead, and the other keys are ignored.",
        "anyOf": method::all(),
    })
}

/// The aliases of words (`serde(alias)`), which a derived schema leaves out: the type, the alias,
/// and the word.
const ALIASES: [(&str, &str, &str); 3] = [
    ("OptimizerName", "adamw_torch_fused", "adamw_torch"),
    ("OptimizerName", "lion_32bit", "lion"),
    ("Pooling", "last", "lasttoken"),
];

fn add_aliases(schema: &mut Value) {
    for (of, alias, word) in ALIASES {
        let words = schema.pointer_mut(&format!("/definitions/{of}/oneOf"));
        if let Some(Value::Array(words)) = words {
            words.push(json!({
                "description": format!("The same as `{word}`."),
                "type": "string",
                "const": alias,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::keys::fields_of;
    use crate::objective::registry::KINDS;
    use crate::optimizer::name::OptimizerName;
    use burn_peft_data::{DataConfig, TrainSet};
    use burn_peft_models::embeddings::Pooling;

    /// The properties of what a value at `pointer` refers to.
    fn properties(schema: &Value, pointer: &str) -> Vec<String> {
        let at = schema.pointer(pointer);
        let keys = at.and_then(Value::as_object).map(|map| map.keys());
        let mut keys: Vec<String> = keys.into_iter().flatten().cloned().collect();
        keys.sort();
        keys
    }

    fn sorted(names: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn every_key_that_is_read_is_in_it_and_no_other() {
        let schema = schema();
        let definition =
            |name: &str| properties(&schema, &format!("/definitions/{name}/properties"));
        assert_eq!(
            properties(&schema, "/properties"),
            sorted(fields_of::<TrainConfig>())
        );
        assert_eq!(definition("DataConfig"), sorted(fields_of::<DataConfig>()));
        assert_eq!(definition("TrainSet"), sorted(fields_of::<TrainSet>()));
        for kind in KINDS.iter().filter(|kind| !(kind.keys)().is_empty()) {
            let reference = &schema["properties"][kind.name];
            let text = reference.to_string();
            let (_, name) = text.split_once("#/definitions/").unwrap();
            let (name, _) = name.split_once('"').unwrap();
            assert_eq!(definition(name), sorted((kind.keys)()), "{}", kind.name);
        }
        for table in schema["definitions"].as_object().unwrap().values() {
            let is_open = table.get("additionalProperties") != Some(&Value::Bool(false));
            assert!(table.get("properties").is_none() || !is_open, "{table}");
        }
    }

    #[test]
    fn other_words_are_those_that_are_read_so() {
        let schema = schema();
        for (of, alias, word) in ALIASES {
            let words = schema["definitions"][of]["oneOf"].to_string();
            assert!(words.contains(&format!("\"const\":\"{alias}\"")), "{words}");
            let read = |name: &str| match of {
                "Pooling" => {
                    serde_json::from_value::<Pooling>(name.into()).map(|p| format!("{p:?}"))
                }
                _ => serde_json::from_value::<OptimizerName>(name.into()).map(|o| format!("{o:?}")),
            };
            assert_eq!(read(alias).unwrap(), read(word).unwrap());
        }
    }
}
