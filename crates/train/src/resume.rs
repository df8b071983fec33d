//! What a checkpoint says of its run, and whether another run can go on from it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use burn_peft_files::read_text;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::arguments::TrainingArguments;
use crate::checkpoint::list;
use crate::error::{Result, TrainError};
use crate::state::TrainState;
use burn_peft_data::DataConfig;

/// The file of a checkpoint that says where its run was. TOML, for its floats read back exactly.
pub(crate) const STATE_NAME: &str = "trainer_state.toml";
/// The file of a checkpoint with the optimizer's state.
pub(crate) const OPTIMIZER_NAME: &str = "optimizer.bpk";

/// What a checkpoint holds beside weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// When it was written, in milliseconds since 1970.
    pub saved_at: u64,
    /// The steps of the whole run.
    pub total_steps: usize,
    /// The hash of the weights that training does not change, where there are any.
    pub base: Option<String>,
    pub state: TrainState,
    pub data: DataIdentity,
    /// The training file of the run, of a run without one the table `training` alone.
    pub config: Table,
}

/// What is known of the training data without reading them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataIdentity {
    pub examples: usize,
    pub tokens: usize,
}

/// Keys that do not change what is computed, with everything below them. The adapter's are
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
/// Beginnings of such keys.
const FREE_BEGINNINGS: &[&str] = &[
    "data.cache",
    "training.eval_",
    "training.save_",
    "training.logging_",
    "training.report_",
    "training.early_stopping_",
    "training.load_best_model",
    "training.metric_for_best",
    "training.greater_is_better",
];

impl Saved {
    /// Reads the state in a checkpoint's folder.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(STATE_NAME);
        let text = read_text(&path)?;
        toml::from_str(&text).map_err(|error| cannot(&path, error.to_string().trim_end().into()))
    }

    /// The text of the file.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| cannot(Path::new(STATE_NAME), error.to_string()))
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

    /// Checks that a run goes on from this checkpoint as if it had never stopped.
    ///
    /// # Errors
    /// If weights, data or a key that changes what is computed differ; the error names it.
    pub fn check(&self, run: &Self, checkpoint: &Path) -> Result<()> {
        match self.difference(run) {
            Some(problem) => Err(cannot(checkpoint, problem)),
            None => Ok(()),
        }
    }

    fn difference(&self, run: &Self) -> Option<String> {
        let (then, now) = (normalised(&self.config), normalised(&run.config));
        let mut keys = Vec::new();
        flatten("", &then, &mut keys);
        flatten("", &now, &mut keys);
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
                return Some(format!(
                    "its run had {key} = {}, this one has {}, and the result would be neither's; \
                     set it back, or begin anew",
                    show(then),
                    show(now)
                ));
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
            return Some(format!(
                "its base was {}, this run's is {}; give it the same weights",
                show(self),
                show(run)
            ));
        }
        if self.data != run.data {
            let (then, now) = (&self.data, &run.data);
            return Some(format!(
                "its run had {} examples with {} tokens to train on, this one has {} with {}; \
                 give it the same data",
                then.examples, then.tokens, now.examples, now.tokens
            ));
        }
        None
    }
}

fn cannot(place: &Path, problem: String) -> TrainError {
    TrainError::Resume {
        checkpoint: place.to_path_buf(),
        problem,
    }
}

/// The same configuration with the defaults of keys that came later.
fn normalised(config: &Table) -> Table {
    fn with_defaults<T: DeserializeOwned + Serialize>(value: &Value) -> Option<Value> {
        Value::try_from(value.clone().try_into::<T>().ok()?).ok()
    }
    let mut config = config.clone();
    for (key, value) in config.iter_mut() {
        let full = match key.as_str() {
            "training" => with_defaults::<TrainingArguments>(value),
            "data" => with_defaults::<DataConfig>(value),
            _ => None,
        };
        if let Some(full) = full {
            *value = full;
        }
    }
    config
}

/// The values of a table under their dotted keys.
fn flatten(prefix: &str, table: &Table, into: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(&format!("{key}."), inner, into),
            value => into.push((key, value.clone())),
        }
    }
}

/// A checkpoint on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its folder.
    pub path: PathBuf,
    /// The optimizer steps that were done.
    pub step: usize,
    /// The steps of the whole run.
    pub total_steps: usize,
}

impl CheckpointInfo {
    /// The checkpoint in `path`: a `checkpoint-N` folder, or the output folder of a run, of which
    /// it is the newest.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(path: &Path) -> Result<Self> {
        if path.join(STATE_NAME).is_file() {
            return Self::new(path, &Saved::read(path)?);
        }
        Self::latest(path)?.ok_or_else(|| {
            cannot(
                path,
                format!("it is no checkpoint: there is no {STATE_NAME} in it"),
            )
        })
    }

    /// The checkpoint in a run's output folder that was written last, if there is one.
    ///
    /// # Errors
    /// If the folder or a checkpoint in it cannot be read.
    pub fn latest(output_dir: &Path) -> Result<Option<Self>> {
        let mut latest: Option<(u64, Self)> = None;
        for (_, path) in list(output_dir)? {
            let saved = Saved::read(&path)?;
            if latest
                .as_ref()
                .is_none_or(|(time, _)| *time <= saved.saved_at)
            {
                latest = Some((saved.saved_at, Self::new(&path, &saved)?));
            }
        }
        Ok(latest.map(|(_, info)| info))
    }

    fn new(path: &Path, saved: &Saved) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            step: saved.state.global_step,
            total_steps: saved.total_steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(config: &str) -> Saved {
        Saved {
            saved_at: 1,
            total_steps: 40,
            base: Some("abc".into()),
            state: TrainState::default(),
            data: DataIdentity {
                examples: 3,
                tokens: 9,
            },
            config: config.parse().unwrap(),
        }
    }

    const CONFIG: &str = "model = 'm'\n[data]\ntrain = 'a'\n[training]\noutput_dir = 'o'\n";

    #[test]
    fn floats_read_back_bit_for_bit() {
        let mut state = saved(CONFIG);
        let mut value = 0.1_f64;
        for i in 0..2000 {
            value = (value * 1.618_033_988_749_895).fract() + 1e-9 / f64::from(i + 1);
            state.state.total_loss = value * 10_f64.powi(i % 40 - 20);
            let read: Saved = toml::from_str(&state.to_toml().unwrap()).unwrap();
            assert_eq!(read, state);
        }
    }

    #[test]
    fn a_difference_that_matters_is_named_and_others_are_not() {
        let then = saved(CONFIG);
        let with = |line: &str| then.difference(&saved(&format!("{CONFIG}{line}")));
        for fine in [
            "",
            "learning_rate = 5e-5",
            "max_steps = 80",
            "save_steps = 3",
            "eval_strategy = 'steps'",
            "logging_steps = 1",
        ] {
            assert_eq!(with(fine), None, "{fine}");
        }
        let problem = with("learning_rate = 0.5").unwrap();
        assert!(
            problem.contains("its run had training.learning_rate = 0.00005, this one has 0.5"),
            "{problem}"
        );
        assert!(with("seed = 1").unwrap().contains("training.seed"));
        let other = CONFIG.replace("'a'", "'a'\nmax_length = 7");
        let problem = then.difference(&saved(&other)).unwrap();
        assert!(
            problem.contains("data.max_length = nothing, this one has 7"),
            "{problem}"
        );

        let mut base = saved(CONFIG);
        base.base = Some("def".into());
        let problem = then.difference(&base).unwrap();
        assert!(
            problem.contains("abc") && problem.contains("def"),
            "{problem}"
        );
        let mut data = saved(CONFIG);
        data.data.examples = 4;
        assert!(then.difference(&data).unwrap().contains("3 examples"));
    }

    #[test]
    fn the_latest_is_the_one_written_last() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            CheckpointInfo::latest(&dir.path().join("none")).unwrap(),
            None
        );
        for (step, saved_at) in [(10, 5), (20, 9), (40, 2)] {
            let path = dir.path().join(format!("checkpoint-{step}"));
            std::fs::create_dir(&path).unwrap();
            let saved = Saved {
                saved_at,
                ..saved(CONFIG)
            };
            std::fs::write(path.join(STATE_NAME), saved.to_toml().unwrap()).unwrap();
        }
        std::fs::create_dir(dir.path().join("checkpoint-50")).unwrap();
        let latest = CheckpointInfo::latest(dir.path()).unwrap().unwrap();
        assert_eq!(latest.path, dir.path().join("checkpoint-20"));
        assert_eq!(CheckpointInfo::find(dir.path()).unwrap(), latest);
        let error = CheckpointInfo::find(&dir.path().join("checkpoint-50")).unwrap_err();
        assert!(error.to_string().contains("is no checkpoint"), "{error}");
    }
}
