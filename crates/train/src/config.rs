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
use crate::overrides::Override;
use crate::peft_table::{self, not_finite};
use crate::quantization::BitsAndBytesConfig;
use crate::words::foreign_method;

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
        let error = |problem: String| TrainError::Config {
            place: place.to_string(),
            problem,
        };
        let parsed = text.parse::<Table>();
        let mut table = parsed.map_err(|e| error(e.to_string().trim_end().to_string()))?;
        let flag = |text: &str, problem: String| TrainError::Config {
            place: format!("--set {text}"),
            problem,
        };
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
    fn from_table(table: Table) -> std::result::Result<Self, String> {
        if let Some((_, problem)) = Known::of(&table).first_unknown(&table) {
            return Err(problem);
        }
        if let Some(problem) = (table.get("peft")).and_then(|peft| not_finite("peft", peft)) {
            return Err(problem);
        }
        let config = Value::Table(table).try_into();
        config.map_err(|error: toml::de::Error| {
            plain_words(&error.to_string())
                .trim_end()
                .replace('\n', " ")
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
            Some(change) => Err(TrainError::Config {
                place: format!("--set {}", change.text),
                problem: error.to_string().replace(&format!("{place} [peft]: "), ""),
            }),
            None => Err(error),
        }
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
        let path = dir.join(CONFIG_NAME);
        write_atomically(&path, self.to_toml()?.as_bytes())?;
        Ok(path)
    }
}

/// Checks that a key takes a value, in a file that says nothing else.
fn check_alone(known: &Known, change: &Override, value: &Value) -> std::result::Result<(), String> {
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
    let read = Value::Table(table).try_into::<TrainConfig>();
    read.map(drop)
        .map_err(|error| plain_words(error.message().trim_end()))
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
            let method = read(FILE, &[flag]).and_then(|config| config.method("a.toml"));
            method.map(drop).unwrap_err().to_string()
        };
        let message = method("peft.lora_r=4");
        assert!(
            message.ends_with(": peft.lora_r is no known key; did you mean r?"),
            "{message}"
        );
        let message = method("peft.peft_type=lora");
        assert!(
            message.ends_with("is no method; did you mean peft_type = \"LORA\"?"),
            "{message}"
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
        assert_eq!(
            error(&["peft.lora_alfa=3"]),
            "--set peft.lora_alfa=3: peft.lora_alfa is no known key; did you mean lora_alpha?"
        );
        let config = read(&FILE.replace("r = 4", "lora_alfa = 3"), &[]).unwrap();
        let message = config.method("a.toml").unwrap_err().to_string();
        assert_eq!(
            message,
            "a.toml [peft]: peft.lora_alfa is no known key; did you mean lora_alpha?"
        );
        let message = error(&["peft.task_type=SEQ_CLS"]);
        assert_eq!(
            message,
            "--set peft.task_type=SEQ_CLS: peft.task_type = \"SEQ_CLS\": what is trained here is a causal language \
             model; leave the key out, or set it to \"CAUSAL_LM\""
        );
        let config = read(FILE, &["peft.task_type=CAUSAL_LM"]).unwrap();
        config.method("a.toml").unwrap();
        assert_eq!(
            error(&["peft.lora_alpha=nan"]),
            "--set peft.lora_alpha=nan: lora_alpha = nan: it must be a finite number"
        );
        let infinite = read(&FILE.replace("r = 4", "r = inf"), &[]).unwrap_err();
        assert_eq!(
            infinite.to_string(),
            "a.toml: peft.r = inf: it must be a finite number"
        );
        assert!(error(&["training.output_dir="]).contains("training.output_dir is not set"));
        assert!(error(&["adapter=x", "peft.r=2"]).contains("both"));
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
    fn a_key_takes_its_value_as_people_write_it() {
        let set = |text: &str| read(FILE, &[text]).unwrap();
        assert_eq!(set("training.learning_rate=.5").training.learning_rate, 0.5);
        assert_eq!(set("training.max_steps=1e3").training.max_steps, 1000);
        assert_eq!(set("training.max_steps=1_000").training.max_steps, 1000);
        assert!(set("training.bf16=True").training.bf16);
        assert_eq!(
            set("training.save_total_limit=05")
                .training
                .save_total_limit,
            Some(5)
        );
        for text in [
            "2024",
            "5",
            "true",
            "1e5",
            ".5",
            "{a",
            "[x",
            "\"x",
            "2024-01-02",
            "",
            "a = b",
        ] {
            assert_eq!(set(&format!("prompt={text}")).prompt.as_deref(), Some(text));
            let data = set(&format!("data.template={text}")).data;
            assert_eq!(data.template.as_deref(), Some(text));
            let dir = PathBuf::from(format!("o{text}"));
            let found = set(&format!("training.output_dir=o{text}"));
            assert_eq!(found.training.output_dir, dir);
        }
        assert_eq!(set("model=2024").model, "2024");
        assert_eq!(set("prompt=\"5\"").prompt.as_deref(), Some("5"));
        let template = set("data.template={prompt}: x").data.template;
        assert_eq!(template.as_deref(), Some("{prompt}: x"));

        let method = |texts: &[&str]| {
            let config = read(FILE, texts).unwrap();
            config.method("a.toml").unwrap().to_json()
        };
        assert_eq!(method(&["peft.lora_dropout=.5"])["lora_dropout"], 0.5);
        assert_eq!(method(&["peft.r=1e1"])["r"], 10);
        let revision = method(&["peft.revision=2024"]);
        assert_eq!(revision["revision"], "2024");
        // Keys that need each other, in any order.
        let texts = [
            "peft.init_lora_weights=loftq",
            "peft.loftq_config.loftq_bits=4",
        ];
        assert_eq!(method(&texts)["init_lora_weights"], "loftq");
        let texts = ["peft.eva_config.rho=2", "peft.init_lora_weights=eva"];
        assert_eq!(method(&texts)["init_lora_weights"], "eva");
        let texts = [
            "peft.peft_type=PROMPT_TUNING",
            "peft.num_virtual_tokens=4",
            "peft.prompt_tuning_init=TEXT",
            "peft.prompt_tuning_init_text={x} 5",
            "peft.tokenizer_name_or_path=2024",
        ];
        let prompt = method(&texts);
        assert_eq!(prompt["prompt_tuning_init_text"], "{x} 5");
        assert_eq!(prompt["tokenizer_name_or_path"], "2024");
    }

    #[test]
    fn an_error_of_a_flag_names_the_flag_and_not_the_file() {
        for (text, named) in [
            ("training.learning_rate=fast", "expected a number"),
            ("training.max_steps=1.5", "expected a whole number"),
            ("training.bf16=maybe", "expected true or false"),
            ("training.fsdp=true", "does not support yet"),
            ("dta.x=1", "did you mean data?"),
            ("data.max_length=long", "expected a whole number"),
            (
                "quantization_config.load_in_4bit=2",
                "expected true or false",
            ),
            ("peft.r=eight", "expected a whole number"),
            ("peft.r=-3", "r = -3"),
            ("peft.lora_dropout=2", "lora_dropout"),
            ("peft.target_modules=[c_attn]", "quote strings"),
            ("peft=LORA", "peft.r=8"),
            ("training.max_steps", "no key=value"),
        ] {
            let error = read(FILE, &[text]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--set {text}: ")), "{error}");
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("a.toml"), "{error}");
        }
        // What is wrong in the file stays the file's.
        let wrong = FILE.replace("r = 4", "r = 0");
        let error = read(&wrong, &["peft.lora_alpha=3"])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("a.toml [peft]: "), "{error}");
    }

    #[test]
    fn keys_of_another_method_are_left_out_and_mistakes_are_not() {
        let file = FILE.replace("r = 4", "peft_type = \"IA3\"\nr = 4\nlora_alpha = 8");
        let config = read(&file, &[]).unwrap();
        assert_eq!(config.method("a.toml").unwrap().peft_type(), "IA3");
        let config = read(FILE, &["peft.peft_type=IA3"]).unwrap();
        assert_eq!(config.method("a.toml").unwrap().peft_type(), "IA3");
        let mistake = file.replace("lora_alpha", "lora_alfa");
        let config = read(&mistake, &[]).unwrap();
        assert!(config.method("a.toml").is_err());
        // Another method's key is a mistake where nothing was changed.
        let mistake = FILE.replace("r = 4", "alpha = 4");
        assert!(read(&mistake, &[]).unwrap().method("a.toml").is_err());
        let error = read(FILE, &["peft.peft_type=IA3", "peft.r=4"]).unwrap_err();
        assert!(error.to_string().starts_with("--set peft.r=4: "), "{error}");
    }

    #[test]
    fn an_adapter_that_is_set_takes_the_place_of_the_table() {
        let config = read(FILE, &["adapter=saved"]).unwrap();
        assert_eq!(config.adapter.as_deref(), Some("saved"));
        assert_eq!(config.peft, None);
    }

    #[test]
    fn total_step_is_that_of_the_run() {
        // A pattern of ranks is a number a layer for LoRA, and a list for AdaLoRA.
        let file = FILE.replace("rank_pattern = { \"h.0.attn.c_attn\" = 2 }", "");
        let ada = "peft.peft_type=ADALORA";
        let total = |config: &TrainConfig| {
            let json = config.method("a.toml").unwrap().to_json();
            json["total_step"].as_u64().unwrap()
        };
        let config = read(&file, &[ada, "training.max_steps=90"]).unwrap();
        assert_eq!((config.wants_total_step(), total(&config)), (false, 90));
        let config = read(&file, &[ada, "peft.total_step=50"]).unwrap();
        assert_eq!((config.wants_total_step(), total(&config)), (false, 50));
        let mut config = read(&file, &[ada]).unwrap();
        assert!(config.wants_total_step());
        config.set_total_step(70);
        assert_eq!((config.wants_total_step(), total(&config)), (false, 70));
        assert!(!read(&file, &[]).unwrap().wants_total_step());
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
