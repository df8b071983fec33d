//! Reading a training file, with the changes that `--set` makes to it.

use std::path::Path;

use burn_peft_files::{plain_words, read_text};
use toml::{Table, Value};

use crate::configuration::config::TrainConfig;
use crate::configuration::keys::Known;
use crate::configuration::overrides::Override;
use crate::configuration::peft_table::{self, not_finite};
use crate::error::{ConfigProblem, Result, TrainError};
use crate::objective::registry::KINDS;

impl TrainConfig {
    /// Reads a training file, changed by overrides such as `training.max_steps=20`.
    ///
    /// # Errors
    /// If the file cannot be read, is not valid TOML, or has an invalid key or value; the error
    /// names the file (or the override) and the key.
    pub fn from_file(path: &Path, overrides: &[impl AsRef<str>]) -> Result<Self> {
        let text = read_text(path)?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// Reads the text of a training file; `place` is its name in errors.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_toml(text: &str, place: &str, overrides: &[impl AsRef<str>]) -> Result<Self> {
        let error = |problem| TrainError::config(place, problem);
        let parsed = text.parse::<Table>();
        let mut table =
            parsed.map_err(|e| error(ConfigProblem::Toml(e.to_string().trim_end().to_string())))?;
        let flag = |text: &str, problem| TrainError::config(format!("--set {text}"), problem);
        let mut changes = Vec::new();
        for text in overrides.iter().map(AsRef::as_ref) {
            changes.push(Override::new(text).map_err(|problem| flag(text, problem))?);
        }
        let before = peft_table::peft_type(&table, &[]);
        let method = peft_table::peft_type(&table, &changes);
        let known = Known::new(&method);
        for change in &changes {
            let check = |value: &Value| {
                if change.is_of_peft() {
                    peft_table::check(&method, change, value)
                } else {
                    check_alone(&known, change, value)
                }
            };
            let applied = change.apply_fitting(&mut table, check);
            applied.map_err(|problem| flag(&change.text, problem))?;
        }
        goes_on_with_adapter(&mut table, place, &changes);
        peft_table::drop_keys_of_another_method(&mut table, &before, &method, &changes);
        let mut config = Self::from_table(table).map_err(error)?;
        config.validate(place)?;
        if let Some(quantization) = &mut config.quantization_config {
            quantization.settle();
        }
        config.share_length();
        config.blame(place, &changes)?;
        Ok(config)
    }

    /// Reads a whole file.
    fn from_table(table: Table) -> std::result::Result<Self, ConfigProblem> {
        if let Some((_, problem)) = Known::of(&table).first_unknown(&table) {
            return Err(problem);
        }
        if let Some(problem) = (table.get("peft")).and_then(|peft| not_finite("peft", peft)) {
            return Err(problem);
        }
        let config = Value::Table(table.clone()).try_into();
        config.map_err(|error: toml::de::Error| {
            no_word(&table, &error).unwrap_or_else(|| {
                let said = plain_words(&error.to_string());
                ConfigProblem::Toml(said.trim_end().replace('\n', " "))
            })
        })
    }

    /// Finds the `--set` that made a method's configuration invalid, if one did.
    fn blame(&self, place: &str, changes: &[Override]) -> Result<()> {
        let changes = changes.iter().filter(|change| change.is_of_peft());
        let mut changes = changes.filter(|change| change.path.len() > 1).peekable();
        if changes.peek().is_none() || self.is_full_training() || self.adapter.is_some() {
            return Ok(());
        }
        let Err(error) = self.method(place) else {
            return Ok(());
        };
        let is_to_blame = |change: &&Override| {
            let mut without = self.clone();
            let peft = without.peft.get_or_insert_default();
            peft.remove(&change.path[1]);
            without.method(place).is_ok()
        };
        match changes.find(is_to_blame) {
            Some(change) => {
                let said = error.to_string().replace(&format!("{place} [peft]: "), "");
                let place = format!("--set {}", change.text);
                Err(TrainError::config(place, ConfigProblem::Method(said)))
            }
            None => Err(error),
        }
    }

    fn validate(&self, place: &str) -> Result<()> {
        self.training.validate()?;
        self.data.check()?;
        let is_full = self.is_full_training();
        let quantization = self.quantization_config.as_ref();
        if let Some(problem) = quantization.and_then(|config| config.problem(is_full)) {
            return Err(TrainError::config(place, problem));
        }
        let distributed = self.distributed.as_ref();
        if let Some(problem) = distributed.and_then(|config| config.problem()) {
            return Err(TrainError::config(place, problem));
        }
        if let Err(problem) = self.check_objective() {
            return Err(TrainError::config(place, problem));
        }
        let problem = match (&self.peft, &self.adapter) {
            (Some(_), None) | (None, Some(_)) => return Ok(()),
            (Some(_), Some(_)) => ConfigProblem::TwoAdapters,
            (None, None) => ConfigProblem::NoAdapter,
        };
        Err(TrainError::config(place, problem))
    }
}

/// Checks that a key accepts a value, in a file without other keys.
fn check_alone(
    known: &Known,
    change: &Override,
    value: &Value,
) -> std::result::Result<(), ConfigProblem> {
    let mut table = Table::new();
    change.apply(&mut table, value)?;
    if let Some((_, problem)) = known.first_unknown(&table) {
        return Err(problem);
    }
    table.entry("model").or_insert("".into());
    for (name, key) in [("data", Some("train")), ("training", None)] {
        let inner = table.entry(name).or_insert(Value::Table(Table::new()));
        if let (Value::Table(inner), Some(key)) = (inner, key) {
            inner.entry(key).or_insert("".into());
        }
    }
    let read = Value::Table(table.clone()).try_into::<TrainConfig>();
    read.map(drop).map_err(|error| {
        let said = no_word(&table, &error);
        said.unwrap_or_else(|| ConfigProblem::Toml(plain_words(error.message().trim_end())))
    })
}

/// The message for a value that is not a text, for a key that takes one of some words: serde's
/// error names neither. The words are in the error that a wrong text causes in its place.
fn no_word(table: &Table, error: &toml::de::Error) -> Option<ConfigProblem> {
    if !error.message().contains("unit variant") {
        return None;
    }
    let inner = ["training", "data", "distributed", "quantization_config"].into_iter();
    let mut inner = inner.chain(KINDS.iter().map(|kind| kind.name));
    inner.find_map(|name| {
        let mut keys = table.get(name)?.as_table()?.iter();
        keys.find_map(|(key, value)| {
            if value.is_str() {
                return None;
            }
            let mut other = table.clone();
            let entry = other.get_mut(name)?.get_mut(key)?;
            *entry = Value::String(value.to_string());
            let error = Value::Table(other).try_into::<TrainConfig>().err()?;
            let (_, words) = error.message().split_once("unknown variant")?;
            let (_, words) = words.split_once("expected ")?;
            Some(ConfigProblem::NoWord {
                key: format!("{name}.{key}"),
                value: value.to_string(),
                words: words.trim_end().into(),
            })
        })
    })
}

/// An adapter set by `--set` replaces the `[peft]` of the file.
fn goes_on_with_adapter(table: &mut Table, place: &str, changes: &[Override]) {
    let adapter = changes.iter().find(|change| change.path == ["adapter"]);
    if let Some(adapter) = adapter
        && !changes.iter().any(Override::is_of_peft)
        && table.remove("peft").is_some()
    {
        let text = &adapter.text;
        tracing::warn!("[peft] of {place} is ignored: --set {text} continues that adapter");
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
