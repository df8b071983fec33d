//! Reading a configuration key by key, with errors that name the source, the key and the value.

use super::keys::{is_truthy, own_keys};
use crate::{PeftError, Result};
use burn_peft_files::{json_problem, plain_words};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The keys of one configuration that have not been read yet, and their source.
///
/// It reads both an `adapter_config.json` and the `[peft]` table of a training file, converted to a
/// JSON map.
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
    /// If `text` is not JSON, or not a JSON object.
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

    /// The source of the keys.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Removes and returns the value of `key`; the default of `T` stands for a missing or null key.
    ///
    /// # Errors
    /// If the value is not a `T`; the error names the source, the key, the value and what was
    /// expected.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        match self.take_value(key) {
            Some(value) => self.convert(key, &value),
            None => Ok(default),
        }
    }

    /// The value of `key` as a `T`, without removing it; `None` if it is missing or null.
    ///
    /// # Errors
    /// As [`Fields::take`].
    pub fn peek<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.map.get(key).filter(|value| !value.is_null());
        value.map(|value| self.convert(key, value)).transpose()
    }

    /// Removes and returns the raw value of `key`; `None` if it is missing or null.
    pub fn take_value(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Removes and returns the value of `key` if it is given; null counts as missing.
    pub(crate) fn take_given(&mut self, key: &str) -> Option<Option<Value>> {
        let value = self.map.shift_remove(key)?;
        Some(Some(value).filter(|value| !value.is_null()))
    }

    /// Moves a key that can only be turned off to the keys `off`, if it is given. Its value has to
    /// be its default, or one that Python treats as false.
    ///
    /// # Errors
    /// If the value turns it on.
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

    /// Removes and returns every key that the default of `T` has.
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
            // Key by key, so that an error names the right one.
            if let Err(error) = T::deserialize(Value::Object(values.clone())) {
                return Err(self.error(&key, &value, &plain_words(&error.to_string())));
            }
        }
        T::deserialize(Value::Object(values)).map_err(|error| PeftError::Syntax {
            place: self.source.clone(),
            problem: plain_words(&error.to_string()),
        })
    }

    /// The keys that nothing has read, in the order of the file.
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

/// A value for an error message, shortened if it is long.
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
