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

use crate::arguments::TrainingArguments;
use crate::error::{Result, TrainError};
use crate::files::write_atomically;
use crate::keys::Known;
use crate::overrides;
use crate::quantization::BitsAndBytesConfig;
use crate::words::foreign_method;

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

/// A number that JSON, which `[peft]` becomes, has no word for: it would be read as not given.
fn not_finite(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Float(number) if !number.is_finite() => {
            Some(format!("{key} = {value}: it must be a finite number"))
        }
        Value::Table(table) => {
            let mut entries = table.iter();
            entries.find_map(|(name, value)| not_finite(&format!("{key}.{name}"), value))
        }
        Value::Array(values) => values.iter().find_map(|value| not_finite(key, value)),
        _ => None,
    }
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
        let error = |problem: String| TrainError::Config {
            place: place.to_string(),
            problem,
        };
        let parsed = text.parse::<Table>();
        let mut table = parsed.map_err(|e| error(e.to_string().trim_end().to_string()))?;
        let peft = table.get("peft").and_then(Value::as_table).cloned();
        for text in overrides.iter().map(AsRef::as_ref) {
            overrides::apply(&mut table, text).map_err(|problem| TrainError::Config {
                place: format!("--set {text}"),
                problem,
            })?;
        }
        if let Some(peft) = peft {
            overrides::drop_keys_of_another_method(&mut table, &peft, overrides);
        }
        if let Some((path, problem)) = Known::of(&table).first_unknown(&table) {
            let flag = overrides.iter().map(AsRef::as_ref);
            let flag = flag.rev().find(|text| overrides::sets(text, &path));
            return Err(match flag {
                Some(text) => TrainError::Config {
                    place: format!("--set {text}"),
                    problem,
                },
                None => error(problem),
            });
        }
        if let Some(peft) = table.get("peft")
            && let Some(problem) = not_finite("peft", peft)
        {
            return Err(error(problem));
        }
        let config: Self = Value::Table(table)
            .try_into()
            .map_err(|e: toml::de::Error| {
                error(plain_words(&e.to_string()).trim_end().replace('\n', " "))
            })?;
        config.validate(place)?;
        Ok(config)
    }

    fn validate(&self, place: &str) -> Result<()> {
        self.training.validate()?;
        let is_full = self.is_full_training();
        let quantization = self.quantization_config.as_ref();
        if let Some(problem) = quantization.and_then(|config| config.problem(is_full)) {
            return Err(TrainError::Config {
                place: place.to_string(),
                problem: problem.to_string(),
            });
        }
        let problem = match (&self.peft, &self.adapter) {
            (Some(_), None) | (None, Some(_)) => return Ok(()),
            (Some(_), Some(_)) => {
                "has both `adapter` and [peft]; keep `adapter` to go on training a saved adapter, \
                 [peft] to begin a new one"
            }
            (None, None) => {
                "says nothing of an adapter; add a [peft] table (peft_type = \"LORA\", r = 8, …) \
                 for a new one, or adapter = \"DIR\" to go on training a saved one"
            }
        };
        Err(TrainError::Config {
            place: place.to_string(),
            problem: problem.to_string(),
        })
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
        let fields = Fields::new(keys, &place);
        let peft_type: String = fields.peek("peft_type")?.unwrap_or_default();
        let known = peft_types();
        if !known.contains(&peft_type)
            && let Some(ours) = foreign_method(&peft_type, &known)
        {
            let problem = format!("peft_type = \"{peft_type}\" is no method; did you mean {ours}?");
            return Err(TrainError::Config { place, problem });
        }
        // Another's adapter may hold keys of a newer PEFT; in one's own file they are mistakes.
        let misspelt = |key: &str| Known::new(&peft_type).misspelt("peft", key);
        let method = config_of_known_keys(fields, &misspelt)?;
        match method.common().task_type {
            None | Some(TaskType::CausalLm) => Ok(method),
            Some(task) => {
                let problem = format!(
                    "peft.task_type = {task}: what is trained here is a causal language model; \
                     leave the key out, or set it to \"CAUSAL_LM\""
                );
                Err(TrainError::Config { place, problem })
            }
        }
    }

    /// The file that repeats this run, with every default written out.
    ///
    /// # Errors
    /// If a value of `[peft]` has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| TrainError::Config {
            place: "the configuration".into(),
            problem: format!("cannot be written as TOML: {e}"),
        })
    }

    /// Writes [`to_toml`](Self::to_toml) to `config.toml` in the output folder, which is made.
    ///
    /// # Errors
    /// If the folder or the file cannot be written; the error names it.
    pub fn save(&self) -> Result<PathBuf> {
        let dir = &self.training.output_dir;
        std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
        let path = dir.join("config.toml");
        write_atomically(&path, self.to_toml()?.as_bytes())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::IntervalStrategy;

    const FILE: &str = r#"
        model = "models/tiny"
        [data]
        train = "a.jsonl"
        [peft]
        r = 4
        target_modules = ["c_attn"]
        rank_pattern = { "h.0.attn.c_attn" = 2 }
        [training]
        output_dir = "out"
        num_train_epochs = 1
        eval_strategy = "steps"
    "#;

    fn read(text: &str, overrides: &[&str]) -> Result<TrainConfig> {
        TrainConfig::from_toml(text, "a.toml", overrides)
    }

    #[test]
    fn what_is_written_reads_back_the_same_and_has_every_default() {
        let config = read(FILE, &["training.eval_steps=7", "data.max_length=32"]).unwrap();
        assert_eq!(config.training.eval_strategy, IntervalStrategy::Steps);
        assert_eq!(config.training.eval_steps, Some(7));
        assert_eq!(config.data.max_length, Some(32));
        let text = config.to_toml().unwrap();
        assert_eq!(read(&text, &[]).unwrap(), config, "{text}");
        for default in [
            "learning_rate = 0.00005",
            "seed = 42",
            "max_grad_norm = 1.0",
        ] {
            assert!(text.contains(default), "{text}");
        }
    }

    #[test]
    fn errors_name_the_file_the_key_and_the_way_out() {
        let error = |overrides: &[&str]| read(FILE, overrides).unwrap_err().to_string();
        assert_eq!(
            error(&["training.learning_rat=1"]),
            "--set training.learning_rat=1: training.learning_rat is no known key; did you mean \
             learning_rate?"
        );
        assert!(error(&["training.fsdp=true"]).contains("does not support yet"));
        assert!(error(&["dta.x=1"]).contains("did you mean data?"));
        let message = read(&FILE.replace("num_train_epochs", "epochs"), &[]).unwrap_err();
        assert_eq!(
            message.to_string(),
            "a.toml: training.epochs is no known key; did you mean num_train_epochs?"
        );
        assert_eq!(
            error(&["r=4"]),
            "--set r=4: r is no known key; did you mean peft.r?"
        );
        let method = |flag: &str| {
            let config = read(FILE, &[flag]).unwrap();
            config.method("a.toml").unwrap_err().to_string()
        };
        assert_eq!(
            method("peft.lora_r=4"),
            "a.toml [peft]: peft.lora_r is no known key; did you mean r?"
        );
        assert_eq!(
            method("peft.peft_type=lora"),
            "a.toml [peft]: peft_type = \"lora\" is no method; did you mean peft_type = \"LORA\"?"
        );
        assert!(method("peft.peft_type=DORA").contains("use_dora = true"));
        let message = error(&["training.max_steps=many"]);
        assert!(
            message.contains("many") && message.contains("training.max_steps"),
            "{message}"
        );
        let message = error(&["training.lr_scheduler_type=staircase"]);
        assert!(
            message.contains("staircase") && message.contains("cosine"),
            "{message}"
        );
        assert!(error(&["data.max_lenght=3"]).ends_with("did you mean max_length?"));
        let config = read(FILE, &["peft.lora_alfa=3"]).unwrap();
        let message = config.method("a.toml").unwrap_err().to_string();
        assert_eq!(
            message,
            "a.toml [peft]: peft.lora_alfa is no known key; did you mean lora_alpha?"
        );
        let config = read(FILE, &["peft.task_type=SEQ_CLS"]).unwrap();
        let message = config.method("a.toml").unwrap_err().to_string();
        assert_eq!(
            message,
            "a.toml [peft]: peft.task_type = \"SEQ_CLS\": what is trained here is a causal language \
             model; leave the key out, or set it to \"CAUSAL_LM\""
        );
        let config = read(FILE, &["peft.task_type=CAUSAL_LM"]).unwrap();
        config.method("a.toml").unwrap();
        assert_eq!(
            error(&["peft.lora_alpha=nan"]),
            "a.toml: peft.lora_alpha = nan: it must be a finite number"
        );
        assert!(error(&["training.output_dir="]).contains("training.output_dir is not set"));
        assert!(error(&["adapter=x"]).contains("both"));
        assert!(error(&["training.max_steps"]).starts_with("--set training.max_steps: "));
        assert!(
            read("model = ", &[])
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
        let missing = read(
            "model = 'a'\n[data]\ntrain='a'\n[training]\noutput_dir='o'",
            &[],
        );
        assert!(missing.unwrap_err().to_string().contains("[peft]"));
        let missing = TrainConfig::from_file(Path::new("/nowhere/a.toml"), &[""; 0]);
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("/nowhere/a.toml: ")
        );
    }

    #[test]
    fn full_training_is_asked_for_by_name() {
        assert!(!read(FILE, &[]).unwrap().is_full_training());
        assert!(
            read(FILE, &["peft.peft_type=NONE"])
                .unwrap()
                .is_full_training()
        );
    }
}
