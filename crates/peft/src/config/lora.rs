//! LoRA's keys of `adapter_config.json`.

use super::{CommonConfig, Fields};
use crate::target::pattern_value;
use crate::{PeftError, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Which biases of the base model are trained and saved with the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// None.
    #[default]
    None,
    /// Every bias of the model.
    All,
    /// The biases of the adapted layers.
    LoraOnly,
}

/// How a new adapter starts (PEFT's `init_lora_weights`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitLoraWeights {
    /// `true`: A Kaiming uniform with a = √5, B zero; the adapter starts as the identity.
    #[default]
    True,
    /// `false`: A and B both as a new linear layer; not the identity, for tests.
    False,
    /// `"gaussian"`: A normal with standard deviation 1/r, B zero.
    Gaussian,
}

impl InitLoraWeights {
    fn to_json(self) -> Value {
        match self {
            Self::True => json!(true),
            Self::False => json!(false),
            Self::Gaussian => json!("gaussian"),
        }
    }
}

/// The configuration of a LoRA adapter: PEFT's `LoraConfig`, key for key.
///
/// Keys that change the computation and are not supported cannot be set; a file that sets one
/// is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// The keys that all methods share.
    pub common: CommonConfig,
    /// The rank.
    pub r: usize,
    /// α in the scaling α/r.
    pub lora_alpha: f64,
    /// The probability with which an element of the adapter's input is dropped, in `[0, 1)`.
    pub lora_dropout: f64,
    /// Which biases of the base model are trained.
    pub bias: Bias,
    /// Whether the scaling is α/√r (rsLoRA) instead of α/r.
    pub use_rslora: bool,
    /// How a new adapter starts.
    pub init_lora_weights: InitLoraWeights,
    /// Ranks of single layers, by pattern; the first pattern that matches decides.
    pub rank_pattern: IndexMap<String, usize>,
    /// α of single layers, by pattern; the first pattern that matches decides.
    pub alpha_pattern: IndexMap<String, f64>,
    /// Whether the base weights are `[in, out]`. Written for PEFT; when reading, the layer's
    /// kind decides.
    pub fan_in_fan_out: bool,
    /// Whether B has a bias.
    pub lora_bias: bool,
    /// Keys without a field, as read: see [`inert_keys`] and [`unsupported_keys`].
    others: Map<String, Value>,
}

/// Keys that only mean something beside an unsupported one, with their defaults.
fn inert_keys() -> [(&'static str, Value); 2] {
    [
        ("megatron_core", json!("megatron.core")),
        ("qalora_group_size", json!(16)),
    ]
}

/// Keys that change the computation and are not supported yet, with the defaults that turn them
/// off.
fn unsupported_keys() -> [(&'static str, Value); 17] {
    [
        ("alora_invocation_tokens", Value::Null),
        ("arrow_config", Value::Null),
        ("corda_config", Value::Null),
        ("ensure_weight_tying", json!(false)),
        ("eva_config", Value::Null),
        ("kasa_config", Value::Null),
        ("layer_replication", Value::Null),
        ("loftq_config", json!({})),
        ("lora_ga_config", Value::Null),
        ("megatron_config", Value::Null),
        ("monteclora_config", Value::Null),
        ("target_parameters", Value::Null),
        ("trainable_token_indices", Value::Null),
        ("use_bdlora", Value::Null),
        ("use_dora", json!(false)),
        ("use_qalora", json!(false)),
        ("velora_config", Value::Null),
    ]
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            bias: Bias::None,
            use_rslora: false,
            init_lora_weights: InitLoraWeights::True,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            fan_in_fan_out: false,
            lora_bias: false,
            others: inert_keys()
                .into_iter()
                .chain(unsupported_keys())
                .map(|(key, value)| (key.to_string(), value))
                .collect(),
        }
    }
}

impl LoraConfig {
    /// What `peft_type` says in LoRA's files.
    pub const PEFT_TYPE: &'static str = "LORA";

    /// PEFT's defaults: r 8, α 8, no dropout, the model type's default layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the text of an `adapter_config.json`; `source` is the file that errors name.
    ///
    /// # Errors
    /// As [`LoraConfig::from_fields`], and when the text is not a JSON object.
    pub fn from_json(text: &str, source: &str) -> Result<Self> {
        Self::from_fields(Fields::parse(text, source)?)
    }

    /// Reads a configuration. Keys that nothing here knows are kept, see
    /// [`LoraConfig::unknown_keys`].
    ///
    /// # Errors
    /// When `peft_type` is missing or not `LORA`, a value has the wrong type or is out of range
    /// (see [`LoraConfig::validate`]), or a key asks for something that is not supported.
    pub fn from_fields(mut fields: Fields) -> Result<Self> {
        check_peft_type(&mut fields)?;
        let mut config = Self {
            common: CommonConfig::from_fields(&mut fields)?,
            r: rank(&mut fields)?,
            lora_alpha: fields.take("lora_alpha", 8.0)?,
            lora_dropout: fields.take("lora_dropout", 0.0)?,
            bias: fields.take("bias", Bias::None)?,
            use_rslora: fields.take("use_rslora", false)?,
            init_lora_weights: init(&mut fields)?,
            rank_pattern: rank_pattern(&mut fields)?,
            alpha_pattern: fields.take("alpha_pattern", IndexMap::new())?,
            fan_in_fan_out: fields.take("fan_in_fan_out", false)?,
            lora_bias: fields.take("lora_bias", false)?,
            others: Map::new(),
        };
        for (key, default) in inert_keys() {
            let value = fields.take_value(key).unwrap_or(default);
            config.others.insert(key.to_string(), value);
        }
        for (key, default) in unsupported_keys() {
            let value = fields.take_value(key).unwrap_or(default.clone());
            if is_truthy(&value) {
                let reason = format!("not supported yet; only {default} is");
                return Err(fields.error(key, &value, &reason));
            }
            config.others.insert(key.to_string(), default);
        }
        let source = fields.source().to_string();
        config.common.unknown = fields.rest();
        config
            .validate()
            .map_err(|error| PeftError::Config(format!("{source}: {error}")))?;
        Ok(config)
    }

    /// Every key that PEFT writes and the unknown ones, for [`super::render_json`].
    pub fn to_json(&self) -> Map<String, Value> {
        let alphas: Map<String, Value> = (self.alpha_pattern.iter())
            .map(|(pattern, &alpha)| (pattern.clone(), number(alpha)))
            .collect();
        let mut map = self.common.to_json(Self::PEFT_TYPE);
        map.extend(self.others.clone());
        map.extend(
            [
                ("r", json!(self.r)),
                ("lora_alpha", number(self.lora_alpha)),
                ("lora_dropout", json!(self.lora_dropout)),
                ("bias", json!(self.bias)),
                ("use_rslora", json!(self.use_rslora)),
                ("init_lora_weights", self.init_lora_weights.to_json()),
                ("rank_pattern", json!(self.rank_pattern)),
                ("alpha_pattern", Value::Object(alphas)),
                ("fan_in_fan_out", json!(self.fan_in_fan_out)),
                ("lora_bias", json!(self.lora_bias)),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        map
    }

    /// The keys that were read but that neither PEFT 0.21 nor this crate knows. They may have
    /// changed what the adapter computes where it was trained, so a loader should name them.
    pub fn unknown_keys(&self) -> Vec<&str> {
        self.common.unknown.keys().map(String::as_str).collect()
    }

    /// Checks ranges and combinations; a configuration made with the `with_…` methods is checked
    /// when it is used.
    ///
    /// # Errors
    /// When a rank is 0, a number is not finite, `lora_dropout` lies outside `[0, 1)`, the keys
    /// about layers do not go together ([`CommonConfig::validate`]) or `lora_bias` stands beside
    /// an initialisation other than true or false.
    pub fn validate(&self) -> Result<()> {
        let fail = |reason: String| Err(PeftError::Config(reason));
        self.common.validate()?;
        if self.r == 0 {
            return fail("r = 0: the rank must be a positive whole number".to_string());
        }
        if let Some((pattern, _)) = self.rank_pattern.iter().find(|(_, rank)| **rank == 0) {
            return fail(format!(
                "rank_pattern {pattern:?} = 0: the rank must be a positive whole number"
            ));
        }
        if !self.lora_alpha.is_finite() {
            return fail(format!("lora_alpha = {}: must be finite", self.lora_alpha));
        }
        if let Some((pattern, alpha)) = self.alpha_pattern.iter().find(|(_, a)| !a.is_finite()) {
            return fail(format!(
                "alpha_pattern {pattern:?} = {alpha}: must be finite"
            ));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return fail(format!(
                "lora_dropout = {}: must be at least 0 and below 1",
                self.lora_dropout
            ));
        }
        if self.lora_bias && self.init_lora_weights == InitLoraWeights::Gaussian {
            return fail(
                "lora_bias = true needs init_lora_weights = true or false, not \"gaussian\""
                    .to_string(),
            );
        }
        Ok(())
    }

    /// The rank of the layer at `path`: `rank_pattern`'s, or `r`.
    ///
    /// # Errors
    /// When a pattern is not a regular expression.
    pub fn rank(&self, path: &str) -> Result<usize> {
        let rank = pattern_value("rank_pattern", &self.rank_pattern, path)?;
        Ok(rank.copied().unwrap_or(self.r))
    }

    /// The factor of the adapter's output at `path`: α/r, with rsLoRA α/√r, where
    /// `alpha_pattern` and `rank_pattern` may give the layer its own α and r.
    ///
    /// # Errors
    /// When a pattern is not a regular expression.
    pub fn scaling(&self, path: &str) -> Result<f64> {
        let rank = self.rank(path)? as f64;
        let alpha = pattern_value("alpha_pattern", &self.alpha_pattern, path)?;
        let alpha = alpha.copied().unwrap_or(self.lora_alpha);
        Ok(if self.use_rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        })
    }
}

fn check_peft_type(fields: &mut Fields) -> Result<()> {
    let expected = LoraConfig::PEFT_TYPE;
    match fields.take_value("peft_type") {
        Some(Value::String(name)) if name.eq_ignore_ascii_case(expected) => Ok(()),
        Some(other) => Err(fields.error(
            "peft_type",
            &other,
            &format!("this is not a LoRA adapter, whose peft_type is \"{expected}\""),
        )),
        None => Err(PeftError::Config(format!(
            "{}: peft_type is missing; a LoRA adapter says \"{expected}\"",
            fields.source()
        ))),
    }
}

/// Takes `r` as it stands, so that a negative rank gets the same words as rank 0.
fn rank(fields: &mut Fields) -> Result<usize> {
    let r: i64 = fields.take("r", 8)?;
    positive(r).ok_or_else(|| fields.error("r", &json!(r), MUST_BE_POSITIVE))
}

fn rank_pattern(fields: &mut Fields) -> Result<IndexMap<String, usize>> {
    let ranks: IndexMap<String, i64> = fields.take("rank_pattern", IndexMap::new())?;
    let mut checked = IndexMap::with_capacity(ranks.len());
    for (pattern, rank) in ranks {
        let Some(positive) = positive(rank) else {
            let key = format!("rank_pattern {pattern:?}");
            return Err(fields.error(&key, &json!(rank), MUST_BE_POSITIVE));
        };
        checked.insert(pattern, positive);
    }
    Ok(checked)
}

const MUST_BE_POSITIVE: &str = "the rank must be a positive whole number";

fn positive(rank: i64) -> Option<usize> {
    usize::try_from(rank).ok().filter(|&rank| rank > 0)
}

fn init(fields: &mut Fields) -> Result<InitLoraWeights> {
    match fields.take_value("init_lora_weights") {
        None | Some(Value::Bool(true)) => Ok(InitLoraWeights::True),
        Some(Value::Bool(false)) => Ok(InitLoraWeights::False),
        Some(Value::String(name)) if name == "gaussian" => Ok(InitLoraWeights::Gaussian),
        Some(other) => Err(fields.error(
            "init_lora_weights",
            &other,
            "not supported yet; true, false and \"gaussian\" are",
        )),
    }
}

/// What Python's `bool(value)` says.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A number as PEFT writes α: without a fraction where it has none.
fn number(value: f64) -> Value {
    const EXACT: f64 = (1_i64 << 53) as f64;
    if value.fract() == 0.0 && value.abs() < EXACT {
        json!(value as i64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TargetModules, TaskType, render_json};
    use std::path::PathBuf;

    fn read(text: &str) -> Result<LoraConfig> {
        LoraConfig::from_json(text, "adapter_config.json")
    }

    /// The error for a file with `keys` beside the least a file needs.
    fn error(keys: &str) -> String {
        let text = format!(r#"{{"peft_type": "LORA", "target_modules": ["c_attn"], {keys}}}"#);
        read(&text).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_file_has_the_defaults() {
        let config = read(r#"{"peft_type": "LORA", "target_modules": ["c_attn"]}"#).unwrap();
        assert_eq!(config, LoraConfig::new().with_target_modules(["c_attn"]));
        // The 41 keys of the table in PEFT's documentation of the file.
        assert_eq!(config.to_json().len(), 41);
    }

    #[test]
    fn unknown_keys_are_kept_and_reported() {
        let config = read(r#"{"peft_type": "LORA", "spam": [1], "foobar": 2.5}"#).unwrap();
        assert_eq!(config.unknown_keys(), ["spam", "foobar"]);
        assert_eq!(config.to_json()["spam"], json!([1]));
    }

    #[test]
    fn pattern_order_survives_reading_but_not_writing() {
        let config =
            read(r#"{"peft_type": "LORA", "rank_pattern": {"z": 3, "a": 4}, "lora_alpha": 22.6}"#)
                .unwrap();
        let keys: Vec<_> = config.rank_pattern.keys().collect();
        assert_eq!(keys, ["z", "a"]);
        let text = render_json(&config.to_json());
        assert!(text.contains("\"rank_pattern\": {\n    \"a\": 4,\n    \"z\": 3\n  }"));
        assert!(text.contains("\"lora_alpha\": 22.6,"));
    }

    #[test]
    fn bad_values_are_errors_that_name_them() {
        for (keys, parts) in [
            (r#""r": 0"#, ["r = 0: ", "positive"]),
            (r#""r": -4"#, ["r = -4: ", "positive"]),
            (r#""r": 2.5"#, ["r = 2.5: ", "a whole number"]),
            (
                r#""rank_pattern": {"c_fc": 0}"#,
                ["\"c_fc\" = 0", "positive"],
            ),
            (r#""lora_dropout": 1.0"#, ["lora_dropout = 1", "below 1"]),
            (
                r#""lora_dropout": -0.1"#,
                ["lora_dropout = -0.1", "at least 0"],
            ),
            (r#""bias": "some""#, ["bias = \"some\"", "lora_only"]),
            (r#""task_type": "LM""#, ["task_type = \"LM\"", "CAUSAL_LM"]),
            (
                r#""target_modules": 3"#,
                ["target_modules = 3", "list of strings"],
            ),
            (
                r#""layers_pattern": "h""#,
                ["[\"h\"]", "layers_to_transform"],
            ),
            (
                r#""target_modules": "c_.*", "layers_to_transform": 1"#,
                ["layers_to_transform = [1]", "\"c_.*\""],
            ),
            (
                r#""target_modules": "all-linear", "layers_pattern": ["h"]"#,
                ["layers_pattern = [\"h\"]", "\"all-linear\""],
            ),
            (
                r#""lora_bias": true, "init_lora_weights": "gaussian""#,
                ["lora_bias", "gaussian"],
            ),
            (
                r#""init_lora_weights": "pissa""#,
                ["\"pissa\"", "not supported"],
            ),
            (r#""use_dora": true"#, ["use_dora = true", "not supported"]),
            (
                r#""loftq_config": {"a": 1}"#,
                ["loftq_config = {", "not supported"],
            ),
            (
                r#""layer_replication": [[0, 2]]"#,
                ["[[0,2]]", "not supported"],
            ),
            (r#""peft_type": "IA3""#, ["peft_type = \"IA3\"", "LORA"]),
        ] {
            let message = error(keys);
            assert!(message.starts_with("adapter_config.json: "), "{message}");
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        let message = read("{}").unwrap_err().to_string();
        assert!(message.contains("peft_type is missing"), "{message}");
    }

    #[test]
    fn values_that_switch_nothing_on_are_fine() {
        let config = read(
            r#"{"peft_type": "LORA", "target_modules": "c_.*", "layers_pattern": "",
                "layers_to_transform": [], "loftq_config": null, "layer_replication": [],
                "rank_pattern": null, "r": null, "use_dora": null, "task_type": "CAUSAL_LM",
                "modules_to_save": "score"}"#,
        )
        .unwrap();
        assert_eq!(config.r, 8);
        assert_eq!(config.common.task_type, Some(TaskType::CausalLm));
        assert_eq!(config.common.modules_to_save, Some(vec!["score".into()]));
        assert_eq!(
            config.common.target_modules,
            Some(TargetModules::Pattern("c_.*".into()))
        );
    }

    #[test]
    fn scaling_follows_the_patterns() {
        let config = LoraConfig::new()
            .with_r(4)
            .with_lora_alpha(12.0)
            .with_rank_pattern([("h.0.attn.c_attn", 16)])
            .with_alpha_pattern([("c_fc", 40.0)]);
        let scaling = |path| config.scaling(path).unwrap();
        assert_eq!(scaling("transformer.h.1.attn.c_attn"), 3.0);
        assert_eq!(scaling("transformer.h.0.attn.c_attn"), 0.75);
        assert_eq!(scaling("transformer.h.0.mlp.c_fc"), 10.0);
        let rslora = config.clone().with_use_rslora(true);
        assert_eq!(rslora.scaling("transformer.h.0.attn.c_attn").unwrap(), 3.0);
        assert_eq!(rslora.scaling("transformer.h.0.mlp.c_fc").unwrap(), 20.0);
    }

    /// The files PEFT wrote for the conformance cases come back byte for byte.
    #[test]
    fn files_of_peft_are_rewritten_unchanged() {
        let cases =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/cases");
        let Ok(entries) = std::fs::read_dir(&cases) else {
            eprintln!("skipped: {} is not there", cases.display());
            return;
        };
        let mut rewritten = 0;
        for entry in entries {
            let file = entry.unwrap().path().join("adapter_config.json");
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.display().to_string();
            if !text.contains("\"peft_type\": \"LORA\"") {
                let error = LoraConfig::from_json(&text, &name).unwrap_err().to_string();
                assert!(error.contains("peft_type = "), "{error}");
                continue;
            }
            match LoraConfig::from_json(&text, &name) {
                Ok(config) => {
                    assert_eq!(render_json(&config.to_json()), text, "{name}");
                    assert!(config.unknown_keys().is_empty(), "{name}");
                    rewritten += 1;
                }
                Err(error) => {
                    let key = match &name {
                        n if n.contains("dora") => "use_dora = true",
                        n if n.contains("trainable_tokens") => "trainable_token_indices = [",
                        _ => panic!("{error}"),
                    };
                    assert!(error.to_string().contains(key), "{error}");
                }
            }
        }
        assert!(rewritten > 0);
    }
}
