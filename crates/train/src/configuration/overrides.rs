//! `--set a.b=value`: changes to a training file before it is read.

use toml::{Table, Value};

use crate::configuration::values::{is_broken, parse_key, readings};
use crate::error::ConfigProblem;

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    /// The text as given.
    pub text: String,
    /// The key, name by name; at least one.
    pub path: Vec<String>,
    /// What the value can mean, the most likely first; empty for a malformed list of data sets.
    pub readings: Vec<Value>,
    /// Whether the value looks like a list, a table or a quoted text, but is not one.
    pub is_broken: bool,
}

/// Keys whose values are taken literally, with leading and trailing spaces and line breaks.
const TEXTS: [&str; 2] = ["prompt", "data.template"];

impl Override {
    /// Reads `a.b=value`.
    ///
    /// # Errors
    /// What is wrong, without the text of the override.
    pub fn new(text: &str) -> Result<Self, ConfigProblem> {
        let (key, value) = text.split_once('=').ok_or(ConfigProblem::NoAssignment)?;
        let path = parse_key(key.trim()).filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| ConfigProblem::NoKey(key.into()))?;
        let mut readings = readings(value.trim());
        let is_of_sets = path == ["data", "train"] || path == ["data", "validation"];
        if is_of_sets && value.trim().starts_with('[') {
            // A list, and no file has that name.
            readings.pop();
        }
        if TEXTS.contains(&path.join(".").as_str()) {
            // In `key = value`, the space belongs to the `=`.
            let is_spaced = key.ends_with(char::is_whitespace);
            let text = if is_spaced { value.trim_start() } else { value };
            readings.pop();
            readings.push(Value::String(text.to_string()));
        }
        if matches!(readings.first(), Some(Value::Array(_))) {
            // A list with an invalid entry is not a text.
            readings.retain(|reading| !reading.is_str());
        }
        Ok(Self {
            text: text.to_string(),
            path,
            readings,
            is_broken: is_broken(value.trim()),
        })
    }

    /// Whether this sets a key of the table `[peft]`, or the whole table.
    pub fn is_of_peft(&self) -> bool {
        self.path[0] == "peft"
    }

    /// Sets one of the readings in a table.
    ///
    /// # Errors
    /// What is wrong, without the text of the override.
    pub fn apply(&self, table: &mut Table, value: &Value) -> Result<(), ConfigProblem> {
        let (last, path) = self.path.split_last().ok_or(ConfigProblem::NoPath)?;
        let mut table = table;
        for name in path {
            let entry = table
                .entry(name)
                .or_insert_with(|| Value::Table(Table::new()));
            table = match entry {
                Value::Table(inner) => inner,
                other => {
                    let kind = other.type_str();
                    let name = name.clone();
                    return Err(ConfigProblem::IntoValue { name, kind });
                }
            };
        }
        table.insert(last.clone(), value.clone());
        Ok(())
    }

    /// Sets the first reading that `check` accepts in a table.
    ///
    /// # Errors
    /// Why none of them is accepted.
    pub fn apply_fitting(
        &self,
        table: &mut Table,
        check: impl Fn(&Value) -> Result<(), ConfigProblem>,
    ) -> Result<(), ConfigProblem> {
        let mut first = None;
        for value in &self.readings {
            match check(value) {
                Ok(()) => return self.apply(table, value),
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        if self.is_broken {
            return Err(ConfigProblem::BrokenValue);
        }
        // A value that is not malformed has a reading.
        Err(first.unwrap_or(ConfigProblem::BrokenValue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Result<String, String> {
        let mut table = "model = 'a'\n[training]\nmax_steps = 5\n"
            .parse::<Table>()
            .unwrap();
        let applied =
            Override::new(text).and_then(|change| change.apply_fitting(&mut table, |_| Ok(())));
        applied.map_err(|problem| problem.to_string())?;
        Ok(table.to_string())
    }

    #[test]
    fn values_are_toml_or_else_strings() {
        let training = |line: &str| format!("model = \"a\"\n\n[training]\n{line}\n");
        assert_eq!(
            after("training.max_steps=20").unwrap(),
            training("max_steps = 20")
        );
        let table = after("training.learning_rate = 1e-4").unwrap();
        assert!(table.contains("learning_rate = 0.0001\n"), "{table}");
        assert!(
            after("model=openai-community/gpt2")
                .unwrap()
                .contains("openai-community/gpt2")
        );
        assert!(
            after("peft.target_modules=[\"c_attn\"]")
                .unwrap()
                .contains("[peft]\ntarget")
        );
        assert!(after("peft.r=8").unwrap().contains("[peft]\nr = 8"));
        let table = after("peft.rank_pattern.\"h.0.attn\"=4").unwrap();
        assert!(table.contains("\"h.0.attn\" = 4"), "{table}");
        // Spaces at the end of a prompt count, those at the end of a name do not.
        for (given, text) in [
            ("prompt=The film was ", "The film was "),
            ("prompt = The film ", "The film "),
            ("data.template={question}\n", "{question}\n"),
            ("data.template=\"{question}\\n\"", "{question}\n"),
            ("model=gpt2 ", "gpt2"),
        ] {
            let table: Table = after(given).unwrap().parse().unwrap();
            let value = (table.get("data").and_then(|data| data.get("template")))
                .or_else(|| table.get(&given[..given.find(['=', ' ']).unwrap()]));
            assert_eq!(value.and_then(Value::as_str), Some(text), "{given}");
        }
        // A value cannot smuggle in a second key.
        let table: Table = after("prompt=1\nx = 2").unwrap().parse().unwrap();
        assert_eq!(table["prompt"].as_str(), Some("1\nx = 2"), "no second key");
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert_eq!(after("training.max_steps").unwrap_err(), "is not key=value");
        assert!(after("=5").unwrap_err().contains("no key"));
        assert!(after("a..b=5").unwrap_err().contains("no key"));
        assert_eq!(
            after("model.name=5").unwrap_err(),
            "goes into `model`, which is a string and has no keys"
        );
    }
}
