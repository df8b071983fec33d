//! The keys of a `config.json`, with a family's defaults.

use serde_json::{Map, Value};

use crate::config::MAX_SIZE;

type Result<T> = std::result::Result<T, String>;

/// A `config.json` in which missing keys have transformers' defaults.
pub struct Keys<'a> {
    own: &'a Map<String, Value>,
    defaults: Map<String, Value>,
}

impl<'a> Keys<'a> {
    /// The keys of a file over `defaults`, the text of a JSON object.
    ///
    /// # Panics
    /// If `defaults` is not a JSON object.
    pub fn new(own: &'a Map<String, Value>, defaults: &str) -> Self {
        let defaults = serde_json::from_str(defaults).expect("the defaults are an object");
        Self { own, defaults }
    }

    /// The value of a key; `None` if it is `null` or missing.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let value = self.own.get(key).or_else(|| self.defaults.get(key));
        value.filter(|value| !value.is_null())
    }

    /// Whether the file itself has the key, even if it is `null`.
    pub fn has(&self, key: &str) -> bool {
        self.own.contains_key(key)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.get(key)
            .map(|value| read(value).ok_or_else(|| format!("{key} = {value}: expected {expected}")))
            .transpose()
    }

    /// A size between 1 and the largest that makes sense, or `None` if it is missing.
    ///
    /// # Errors
    /// If it is another value; the error names the key.
    pub fn size_if(&self, key: &str) -> Result<Option<usize>> {
        let size = self.read(key, "a whole number", |value| value.as_u64())?;
        match size {
            Some(0) => Err(format!("{key} = 0 is not between 1 and {MAX_SIZE}")),
            Some(size) if size > MAX_SIZE as u64 => {
                Err(format!("{key} = {size} is not between 1 and {MAX_SIZE}"))
            }
            size => Ok(size.map(|size| size as usize)),
        }
    }

    /// A required size.
    ///
    /// # Errors
    /// If it is another value or missing.
    pub fn size(&self, key: &str) -> Result<usize> {
        self.size_if(key)?
            .ok_or_else(|| format!("{key} is missing: expected a whole number"))
    }

    /// A number, or `None` if it is missing.
    ///
    /// # Errors
    /// If it is another value; the error names the key.
    pub fn number_if(&self, key: &str) -> Result<Option<f64>> {
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite());
        self.read(key, "a number", number)
    }

    /// A number, or `default`.
    ///
    /// # Errors
    /// If it is another value; the error names the key.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.number_if(key)?.unwrap_or(default))
    }

    /// The probability of a dropout; 0 if it is missing.
    ///
    /// # Errors
    /// If it is another value; the error names the key.
    pub fn dropout(&self, key: &str) -> Result<f64> {
        let value = self.number_or(key, 0.0)?;
        crate::config::check_dropouts(&[(key, value)]).map(|()| value)
    }

    /// Whether a key is `true`.
    ///
    /// # Errors
    /// If the value is neither `true` nor `false`.
    pub fn flag(&self, key: &str) -> Result<bool> {
        let flag = self.read(key, "true or false", Value::as_bool)?;
        Ok(flag.unwrap_or(false))
    }

    /// A list of texts, or `None` if it is missing.
    ///
    /// # Errors
    /// If it is another value; the error names the key.
    pub fn texts_if(&self, key: &str) -> Result<Option<Vec<String>>> {
        let text = |value: &Value| value.as_str().map(str::to_string);
        let texts = |value: &Value| value.as_array()?.iter().map(text).collect();
        self.read(key, "a list of texts", texts)
    }

    /// A list of numbers, or `None` if it is missing.
    ///
    /// # Errors
    /// If it is another value; the error names the key.
    pub fn numbers_if(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_f64).collect();
        self.read(key, "a list of numbers", numbers)
    }

    /// A value that serde reads, or `None` if it is missing.
    ///
    /// # Errors
    /// If it is another value; the error has the key and serde's message.
    pub fn parse_if<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let parse = |value: &Value| {
            serde_json::from_value(value.clone()).map_err(|error| {
                let problem = burn_peft_files::plain_words(&error.to_string());
                format!("{key} = {value}: {problem}")
            })
        };
        self.get(key).map(parse).transpose()
    }

    /// The keys of a nested object, or `None` if it is missing.
    ///
    /// # Errors
    /// If the value is not an object.
    pub fn object_if(&self, key: &str) -> Result<Option<Keys<'_>>> {
        let object = self.get(key).map(|value| {
            let object = value.as_object();
            object.ok_or_else(|| format!("{key} = {value}: expected an object"))
        });
        let below = object.transpose()?;
        Ok(below.map(|own| Keys {
            own,
            defaults: Map::new(),
        }))
    }
}
