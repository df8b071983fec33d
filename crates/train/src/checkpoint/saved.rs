//! What a checkpoint says about its run, and whether another run can resume from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use burn_peft_files::read_text;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use crate::checkpoint::rank_files::is_rank_file;
use crate::checkpoint::whole;
use crate::configuration::arguments::TrainingArguments;
use crate::configuration::distributed::DistributedConfig;
use crate::configuration::quantization::BitsAndBytesConfig;
use crate::error::{Result, ResumeProblem, TrainError};
use crate::run::state::TrainState;
use burn_peft_data::DataConfig;

/// The file of a checkpoint with the state of its run. TOML, since it reads floats back exactly.
pub(crate) const STATE_NAME: &str = "trainer_state.toml";
/// The file of a checkpoint with the optimizer's state.
pub(crate) const OPTIMIZER_NAME: &str = "optimizer.bpk";

/// What a checkpoint holds apart from weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// When it was written, in milliseconds since 1970.
    pub saved_at: u64,
    /// The number of steps of the whole run.
    pub total_steps: usize,
    /// The hash of the frozen weights, if there are any.
    pub base: Option<String>,
    /// The hash of what the objective compares with, if it compares.
    #[serde(default)]
    pub objective: Option<String>,
    /// The model's `config.json`; missing in checkpoints of earlier versions.
    #[serde(default)]
    pub model: Option<String>,
    pub state: TrainState,
    pub data: DataIdentity,
    /// The training file of the run; for a run without one, only the table `training`.
    pub config: Table,
    /// The hashes of the checkpoint's other files; missing in those of earlier versions.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// The first line of the state file has the hash of the other lines: half a file can be valid TOML
/// too.
const HASH_LINE: &str = "# BLAKE3 of the lines below: ";

/// Identifies the training data of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataIdentity {
    pub examples: usize,
    pub tokens: usize,
    /// The hash of all tokens; missing in checkpoints of earlier versions.
    #[serde(default)]
    pub hash: Option<String>,
}

/// Keys that do not change what is computed, with everything below them. The adapter's keys are
/// compared by `TrainTarget::restore`, the model by its hash.
const FREE: &[&str] = &[
    "model",
    "tokenizer",
    "prompt",
    "adapter",
    "peft",
    "data.validation",
    "training.output_dir",
    "training.num_train_epochs",
    "training.max_steps",
    "training.per_device_eval_batch_size",
];
/// Prefixes of such keys.
const FREE_BEGINNINGS: &[&str] = &[
    "data.cache",
    "data.validation[",
    "training.eval_",
    "training.save_",
    "training.logging_",
    "training.report_",
    "training.early_stopping_",
    "training.load_best_model",
    "training.metric_for_best",
    "training.greater_is_better",
];

/// Keys of the model's `config.json` that no training step reads, and suffixes of such keys.
const FREE_OF_MODEL: &[&str] = &[
    "architectures",
    "dtype",
    "initializer_range",
    "name_or_path",
    "token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

impl Saved {
    /// Reads the state in a checkpoint folder.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(STATE_NAME);
        let text = read_text(&path)?;
        let hashed = text.strip_prefix(HASH_LINE);
        if let Some((hash, lines)) = hashed.and_then(|text| text.split_once('\n'))
            && hash != blake3::hash(lines.as_bytes()).to_hex().as_str()
        {
            return Err(TrainError::resume(&path, ResumeProblem::StateChanged));
        }
        toml::from_str(&text).map_err(|error| {
            let problem = ResumeProblem::NoState {
                bytes: text.len(),
                error: error.message().trim_end().into(),
            };
            TrainError::resume(&path, problem)
        })
    }

    /// The content of the file.
    pub fn to_toml(&self) -> Result<String> {
        let lines = toml::to_string(self);
        let lines = lines.map_err(|error| {
            let problem = ResumeProblem::NoToml(error.to_string());
            TrainError::resume(Path::new(STATE_NAME), problem)
        })?;
        let hash = blake3::hash(lines.as_bytes());
        Ok(format!("{HASH_LINE}{hash}\n{lines}"))
    }

    /// Checks that the checkpoint's other files are those that the run has written.
    ///
    /// # Errors
    /// If one is missing or damaged; the error names it.
    pub fn check_files(&self, checkpoint: &Path) -> Result<()> {
        whole::check(checkpoint, &self.files)
    }

    /// How many ranks have a file in the checkpoint.
    pub fn rank_files(&self) -> usize {
        self.files
            .keys()
            .filter(|name| is_rank_file(Path::new(name)))
            .count()
    }

    /// Sets the time of writing to now.
    pub fn stamp(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.saved_at = since.map_or(0, |time| time.as_millis() as u64);
    }

    /// Whether another run computes the same as the one that has written this.
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.difference(other).is_none()
    }

    /// Checks that a run can resume from this checkpoint as if it had never stopped.
    ///
    /// # Errors
    /// If weights, data or a key that changes what is computed differ; the error names it.
    pub fn check(&self, run: &Self, checkpoint: &Path) -> Result<()> {
        match self.difference(run) {
            Some(problem) => Err(TrainError::resume(checkpoint, problem)),
            None => Ok(()),
        }
    }

    /// The remark for a run that resumes from this checkpoint with another last step.
    pub fn other_length(&self, run: &Self, checkpoint: &Path) -> Option<String> {
        let (then, now) = (self.total_steps, run.total_steps);
        if then == now {
            return None;
        }
        let (before, after) = (normalised(&self.config), normalised(&run.config));
        let of = |config: &Table, key| config.get("training")?.get(key).map(Value::to_string);
        let changed = ["max_steps", "num_train_epochs"]
            .into_iter()
            .filter_map(|key| {
                let (before, after) = (of(&before, key)?, of(&after, key)?);
                (before != after).then(|| format!("training.{key} was {before} and is {after}"))
            });
        let changed: Vec<String> = changed.collect();
        Some(format!(
            "{} is of a run of {then} steps, and this one continues to step {now} ({}): from here on \
             the learning rate is that of a run of {now} steps",
            checkpoint.display(),
            changed.join(", ")
        ))
    }

    fn difference(&self, run: &Self) -> Option<ResumeProblem> {
        let (then, now) = (normalised(&self.config), normalised(&run.config));
        let mut keys = Vec::new();
        flatten("", &then, &mut keys);
        flatten("", &now, &mut keys);
        // A difference that follows from another key is not the one to name.
        keys.sort_by_key(|(key, _)| key.ends_with("bnb_4bit_quant_type"));
        for (key, _) in &keys {
            let below = |free: &&str| key == *free || key.starts_with(&format!("{free}."));
            if FREE.iter().any(below) || FREE_BEGINNINGS.iter().any(|free| key.starts_with(free)) {
                continue;
            }
            let of = |table: &Table| {
                let mut values = Vec::new();
                flatten("", table, &mut values);
                let found = values.into_iter().find(|(other, _)| other == key);
                found.map(|(_, value)| value)
            };
            let (then, now) = (of(&then), of(&now));
            if then != now {
                let show = |value: Option<Value>| {
                    value.map_or("nothing".to_string(), |value| value.to_string())
                };
                return Some(ResumeProblem::OtherKey {
                    key: key.clone(),
                    then: show(then),
                    now: show(now),
                });
            }
        }
        if self.base != run.base {
            let show = |saved: &Self| {
                let model = saved.config.get("model").and_then(Value::as_str);
                let hash = saved.base.as_deref().unwrap_or("none");
                format!(
                    "{} (BLAKE3 of the weights {hash})",
                    model.unwrap_or("a model")
                )
            };
            return Some(ResumeProblem::OtherBase {
                then: show(self),
                now: show(run),
            });
        }
        if self.objective != run.objective {
            let show = |saved: &Self| saved.objective.clone().unwrap_or_else(|| "none".into());
            return Some(ResumeProblem::OtherReference {
                then: show(self),
                now: show(run),
            });
        }
        if let (Some(then), Some(now)) = (&self.model, &run.model)
            && let Some(problem) = other_model(then, now)
        {
            return Some(problem);
        }
        let (then, now) = (&self.data, &run.data);
        if (then.examples, then.tokens) != (now.examples, now.tokens) {
            return Some(ResumeProblem::OtherLength {
                then: (then.examples, then.tokens),
                now: (now.examples, now.tokens),
            });
        }
        if let (Some(then), Some(now)) = (&self.data.hash, &run.data.hash)
            && then != now
        {
            return Some(ResumeProblem::OtherRows {
                then: then.clone(),
                now: now.clone(),
            });
        }
        None
    }
}

/// The differences between two `config.json` files that training reads.
fn other_model(then: &str, now: &str) -> Option<ResumeProblem> {
    let read = |text| serde_json::from_str::<Map<String, Json>>(text).unwrap_or_default();
    let (then, now) = (read(then), read(now));
    let is_free = |key: &str| FREE_OF_MODEL.iter().any(|free| key.ends_with(free));
    let mut keys = then.keys().chain(now.keys());
    let key = keys.find(|key| !is_free(key) && then.get(*key) != now.get(*key))?;
    let show = |map: &Map<String, Json>| map.get(key).map_or("nothing".into(), Json::to_string);
    Some(ResumeProblem::OtherModel {
        key: key.clone(),
        then: show(&then),
        now: show(&now),
    })
}

/// The same table `[data]` with the defaults of keys that were added later, and in one form where
/// two keys can express the same.
fn data(value: &Value) -> Option<Value> {
    let mut config = value.clone().try_into::<DataConfig>().ok()?;
    config.train_on = Some(config.learnt());
    config.completion_only_loss = None;
    Value::try_from(config).ok()
}

/// The same table `[distributed]` with the values that are used.
fn distributed(value: &Value) -> Option<Value> {
    let config = value.clone().try_into::<DistributedConfig>().ok()?;
    Value::try_from(config.settled()).ok()
}

/// All values of a configuration that are used, under their dotted keys.
pub(crate) fn values(config: &Table) -> Vec<(String, Value)> {
    let mut values = Vec::new();
    flatten("", &normalised(config), &mut values);
    values
}

/// A quantization_config as it is written now.
fn quantization(value: &Value) -> Option<Value> {
    let mut config: BitsAndBytesConfig = value.clone().try_into().ok()?;
    config.settle();
    Value::try_from(config).ok()
}

/// The same configuration with the defaults of keys that were added later.
fn normalised(config: &Table) -> Table {
    fn with_defaults<T: DeserializeOwned + Serialize>(value: &Value) -> Option<Value> {
        Value::try_from(value.clone().try_into::<T>().ok()?).ok()
    }
    let mut config = config.clone();
    for (key, value) in config.iter_mut() {
        let full = match key.as_str() {
            "training" => with_defaults::<TrainingArguments>(value),
            "data" => data(value),
            "distributed" => distributed(value),
            "quantization_config" => quantization(value),
            _ => None,
        };
        if let Some(full) = full {
            *value = full;
        }
    }
    config
}

/// Lists whose entries are compared one by one: a path, or a table with one.
const LISTS: [&str; 2] = ["data.train", "data.validation"];

/// The values of a table under their dotted keys.
fn flatten(prefix: &str, table: &Table, into: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(&format!("{key}."), inner, into),
            Value::Array(list) if LISTS.contains(&key.as_str()) => {
                let entries = list.iter().enumerate().map(|(index, entry)| match entry {
                    Value::Table(_) => (format!("[{index}]"), entry.clone()),
                    path => (format!("[{index}].path"), path.clone()),
                });
                flatten(&key, &entries.collect(), into);
            }
            value => into.push((key, value.clone())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
