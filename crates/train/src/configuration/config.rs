//! A training file: what is trained, on what, and how.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn_peft::config::{Fields, TaskType};
use burn_peft::methods::{config_of_known_keys, peft_types};
use burn_peft::{LoraConfig, Method, Quantization};
use burn_peft_data::DataConfig;
use burn_peft_files::{plain_words, read_text};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use crate::checkpoint::files::write_atomically;
use crate::configuration::arguments::TrainingArguments;
use crate::configuration::keys::Known;
use crate::configuration::overrides::Override;
use crate::configuration::peft_table::{self, not_finite};
use crate::configuration::quantization::BitsAndBytesConfig;
use crate::configuration::words::foreign_method;
use crate::error::{ConfigProblem, Result, TrainError};

/// The name of the file in the output folder that repeats the run.
pub(crate) const CONFIG_NAME: &str = "config.toml";

/// A training file (TOML).
///
/// ```
/// let config = burn_peft_train::TrainConfig::from_toml(
///     r#"
///     model = "gpt2"
///     [data]
///     train = "reviews.jsonl"
///     [peft]
///     peft_type = "LORA"
///     r = 8
///     [training]
///     output_dir = "out"
///     "#,
///     "example.toml",
///     &["training.max_steps=20"],
/// )?;
/// assert_eq!(config.training.max_steps, 20);
/// # Ok::<(), burn_peft_train::TrainError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// A folder with `config.json` and `model.safetensors`, or the id of a model on the Hub.
    pub model: String,
    /// The folder or file of the tokenizer, where it does not lie with the model.
    #[serde(default)]
    pub tokenizer: Option<String>,
    /// A text to continue before and after training.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The folder of a saved adapter to go on training, in place of `[peft]`.
    #[serde(default)]
    pub adapter: Option<String>,
    /// The data.
    pub data: DataConfig,
    /// A new adapter: the keys of `adapter_config.json`. With `peft_type = "NONE"` all weights
    /// of the model are trained instead.
    #[serde(default)]
    pub peft: Option<Map<String, Json>>,
    /// How the model's frozen weights are quantised, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization_config: Option<BitsAndBytesConfig>,
    /// How it is trained.
    pub training: TrainingArguments,
}

impl TrainConfig {
    /// Reads a training file, changed by overrides like `training.max_steps=20`.
    ///
    /// # Errors
    /// If the file cannot be read, is no TOML, or has a key or a value that cannot be; the error
    /// names the file (or the override) and the key.
    pub fn from_file(path: &Path, overrides: &[impl AsRef<str>]) -> Result<Self> {
        let text = read_text(path)?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// Reads the text of a training file; `place` is how errors call it.
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
        let config = Self::from_table(table).map_err(error)?;
        config.validate(place)?;
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

    /// Finds the `--set` that made a method's configuration one that cannot be, if one did.
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
        let is_full = self.is_full_training();
        let quantization = self.quantization_config.as_ref();
        if let Some(problem) = quantization.and_then(|config| config.problem(is_full)) {
            return Err(TrainError::config(place, problem));
        }
        let problem = match (&self.peft, &self.adapter) {
            (Some(_), None) | (None, Some(_)) => return Ok(()),
            (Some(_), Some(_)) => ConfigProblem::TwoAdapters,
            (None, None) => ConfigProblem::NoAdapter,
        };
        Err(TrainError::config(place, problem))
    }

    /// How the frozen weights are quantised, if they are.
    pub fn quantization(&self) -> Option<Quantization> {
        let config = self.quantization_config.as_ref()?;
        config.quantization(self.training.frozen_dtype())
    }

    /// Whether all weights of the model are trained (`peft_type = "NONE"`).
    pub fn is_full_training(&self) -> bool {
        let peft_type = self.peft.as_ref().and_then(|peft| peft.get("peft_type"));
        peft_type
            .and_then(Json::as_str)
            .is_some_and(|name| name.eq_ignore_ascii_case("none"))
    }

    /// The method of a new adapter, as `[peft]` describes it; LoRA where it names none. `place` is
    /// how errors call the file.
    ///
    /// # Errors
    /// If a key of `[peft]` is unknown or a value cannot be used; the error names it.
    pub fn method(&self, place: &str) -> Result<Arc<dyn Method>> {
        let place = format!("{place} [peft]");
        let mut keys = self.peft.clone().unwrap_or_default();
        keys.entry("peft_type")
            .or_insert_with(|| Json::from(LoraConfig::PEFT_TYPE));
        if peft_table::wants_total_step(&keys) {
            // What it is shall be known once the data are; any number serves until then.
            let steps = u64::try_from(self.training.max_steps).unwrap_or(1 << 40);
            keys.insert(peft_table::TOTAL_STEP.into(), steps.into());
        }
        let fields = Fields::new(keys, &place);
        let peft_type: String = fields.peek("peft_type")?.unwrap_or_default();
        let known = peft_types();
        if !known.contains(&peft_type)
            && let Some(ours) = foreign_method(&peft_type, &known)
        {
            let meant = ours;
            let problem = ConfigProblem::NoMethod { peft_type, meant };
            return Err(TrainError::config(place, problem));
        }
        // Another's adapter may hold keys of a newer PEFT; in one's own file they are mistakes.
        let misspelt = |key: &str| Known::new(&peft_type).misspelt("peft", key).to_string();
        let method = config_of_known_keys(fields, &misspelt)?;
        match method.common().task_type {
            None | Some(TaskType::CausalLm) => Ok(method),
            Some(task) => {
                let problem = ConfigProblem::Task(task.to_string());
                Err(TrainError::config(place, problem))
            }
        }
    }

    /// Whether the adapter's method plans over all steps of the run, and nothing says how many there
    /// are: not `total_step`, and not `max_steps`.
    pub fn wants_total_step(&self) -> bool {
        let peft = self.peft.as_ref();
        self.training.max_steps < 0 && peft.is_some_and(peft_table::wants_total_step)
    }

    /// Says how many steps the run has, where its method plans over them and does not know.
    pub fn set_total_step(&mut self, steps: usize) {
        let peft = self.peft.as_mut();
        if let Some(peft) = peft.filter(|peft| peft_table::wants_total_step(peft)) {
            peft.insert(peft_table::TOTAL_STEP.into(), steps.into());
        }
    }

    /// The file that repeats this run, with every default written out.
    ///
    /// # Errors
    /// If a value of `[peft]` has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| {
            let problem = ConfigProblem::NoToml(error.to_string());
            TrainError::config("the configuration", problem)
        })
    }

    /// Writes [`to_toml`](Self::to_toml) to `config.toml` in the output folder, which is made.
    ///
    /// # Errors
    /// If the folder or the file cannot be written; the error names it.
    pub fn save(&self) -> Result<PathBuf> {
        let dir = &self.training.output_dir;
        std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
        let path = dir.join(CONFIG_NAME);
        write_atomically(&path, self.to_toml()?.as_bytes())?;
        Ok(path)
    }
}

/// Checks that a key takes a value, in a file that says nothing else.
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

/// What to say of a value that is no text where one of some words has to be: the error names
/// neither it nor them. The words are in the error that a wrong text makes in its place.
fn no_word(table: &Table, error: &toml::de::Error) -> Option<ConfigProblem> {
    if !error.message().contains("unit variant") {
        return None;
    }
    let inner = ["training", "data", "quantization_config"];
    inner.into_iter().find_map(|name| {
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

/// An adapter that `--set` names takes the place of the `[peft]` of the file.
fn goes_on_with_adapter(table: &mut Table, place: &str, changes: &[Override]) {
    let adapter = changes.iter().find(|change| change.path == ["adapter"]);
    if let Some(adapter) = adapter
        && !changes.iter().any(Override::is_of_peft)
        && table.remove("peft").is_some()
    {
        let text = &adapter.text;
        tracing::warn!("[peft] of {place} is left out: --set {text} goes on with that adapter");
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
