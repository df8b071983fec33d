//! Reading a configuration key by key, with errors that say where, which key and which value.

use super::keys::{is_truthy, own_keys};
use crate::{PeftError, Result};
use burn_peft_files::{json_problem, plain_words};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The keys of one configuration that have not been read yet, and where they came from.
///
/// It reads an `adapter_config.json` as well as the `[peft]` table of a training file, once that
/// has been turned into a JSON map.
#[derive(Clone, Debug)]
pub struct Fields {
    map: Map<String, Value>,
    source: String,
}

impl Fields {
    /// Reads `map`; `source` is the file or table that errors name.
    pub fn new(map: Map<String, Value>, source: impl Into<String>) -> Self {
        Self {
            map,
            source: source.into(),
        }
    }

    /// Reads the JSON object in `text`.
    ///
    /// # Errors
    /// When `text` is not JSON, or JSON of another kind than an object.
    pub fn parse(text: &str, source: impl Into<String>) -> Result<Self> {
        let source = source.into();
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { map, source }),
            Ok(other) => Err(PeftError::Syntax {
                problem: format!("expected a JSON object, found {}", shown(&other)),
                place: source,
            }),
            Err(error) => Err(PeftError::Syntax {
                problem: format!("not JSON: {}", json_problem(text, &error)),
                place: source,
            }),
        }
    }

    /// Where the keys came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Takes the value of `key`; `default` stands for a key that is absent or null.
    ///
    /// # Errors
    /// When the value is not a `T`: names the source, the key, the value and what was expected.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        match self.take_value(key) {
            Some(value) => self.convert(key, &value),
            None => Ok(default),
        }
    }

    /// The value of `key` as a `T`, without taking it; `None` when it is absent or null.
    ///
    /// # Errors
    /// As [`Fields::take`].
    pub fn peek<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.map.get(key).filter(|value| !value.is_null());
        value.map(|value| self.convert(key, value)).transpose()
    }

    /// Takes the value of `key` as it is; `None` when it is absent or null.
    pub fn take_value(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Takes the value of `key` if it is given; null is none.
    pub(crate) fn take_given(&mut self, key: &str) -> Option<Option<Value>> {
        let value = self.map.shift_remove(key)?;
        Some(Some(value).filter(|value| !value.is_null()))
    }

    /// Takes a key that can only be turned off, into the keys `off`, if it is given. The value is
    /// its default, or one that Python calls false.
    ///
    /// # Errors
    /// When the value turns it on.
    pub(crate) fn take_turned_off(
        &mut self,
        key: &str,
        default: Value,
        off: &mut Map<String, Value>,
    ) -> Result<()> {
        let Some(value) = self.take_given(key) else {
            return Ok(());
        };
        let value = value.unwrap_or_default();
        if is_truthy(&value) && value != default {
            let way_out = match &default {
                Value::Null => "remove the key".to_string(),
                default => format!("only {default} is"),
            };
            return Err(self.error(key, &value, &format!("not supported yet; {way_out}")));
        }
        off.insert(key.to_string(), default);
        Ok(())
    }

    /// Takes every key that the default of `T` has.
    ///
    /// # Errors
    /// As [`Fields::take`].
    pub fn take_struct<T: Default + Serialize + DeserializeOwned>(&mut self) -> Result<T> {
        let mut values = own_keys(&T::default());
        let keys: Vec<String> = values.keys().cloned().collect();
        for key in keys {
            let Some(value) = self.take_value(&key) else {
                continue;
            };
            values.insert(key.clone(), value.clone());
            // One key after the other, so that an error is about this one.
            if let Err(error) = T::deserialize(Value::Object(values.clone())) {
                return Err(self.error(&key, &value, &plain_words(&error.to_string())));
            }
        }
        T::deserialize(Value::Object(values)).map_err(|error| PeftError::Syntax {
            place: self.source.clone(),
            problem: plain_words(&error.to_string()),
        })
    }

    /// The keys that nobody took, in the order of the file.
    pub fn rest(self) -> Map<String, Value> {
        self.map
    }

    fn convert<T: DeserializeOwned>(&self, key: &str, value: &Value) -> Result<T> {
        T::deserialize(value)
            .map_err(|error| self.error(key, value, &plain_words(&error.to_string())))
    }

    /// An error about the `value` of `key`: `SOURCE: KEY = VALUE: reason`.
    pub fn error(&self, key: &str, value: &Value, reason: &str) -> PeftError {
        PeftError::value(key, shown(value), reason).within(&self.source)
    }
}

/// A value for an error message, cut when it is long.
fn shown(value: &Value) -> String {
    const MAX: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text, "a.json").unwrap()
    }

    #[test]
    fn null_is_the_default_and_the_rest_keeps_its_order() {
        let mut fields = fields(r#"{"z": 1, "r": null, "a": 2, "b": 3}"#);
        assert_eq!(fields.take("r", 8_i64).unwrap(), 8);
        assert_eq!(fields.take("a", 0_i64).unwrap(), 2);
        assert_eq!(fields.take::<Option<bool>>("c", None).unwrap(), None);
        assert_eq!(fields.rest().keys().collect::<Vec<_>>(), ["z", "b"]);
    }

    #[test]
    fn an_error_names_the_source_the_key_the_value_and_the_type() {
        let error = fields(r#"{"r": "eight"}"#).take("r", 8_i64).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"a.json: r = "eight": invalid type: string "eight", expected a whole number"#
        );
        let error = Fields::parse("[1]", "a.json").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.json: expected a JSON object, found [1]"
        );
        let error = Fields::parse("{\"r\": ", "a.json").unwrap_err();
        assert!(
            error.to_string().starts_with("a.json: not JSON: EOF"),
            "{error}"
        );
    }
}
