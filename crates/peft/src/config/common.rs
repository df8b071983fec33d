//! The keys of `adapter_config.json` that every layer method has.

use super::{Fields, OneOrMany};
use crate::{PeftError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;

/// The version of PEFT whose files are written; new files have it as `peft_version`.
pub const PEFT_VERSION: &str = "0.21.2";

/// Selects layers by a regular expression or a list of names (PEFT's `target_modules` and
/// `exclude_modules`).
///
/// ```
/// # use burn_peft::{IA3Config, LoraConfig};
/// LoraConfig::new().with_target_modules(["q_proj", "v_proj"]);
/// LoraConfig::new().with_target_modules(r".*\.layers\.[0-3]\..*_proj");
/// IA3Config::new().with_target_modules("all-linear").with_exclude_modules(["head"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum TargetModules {
    /// A regular expression that a layer's whole path must match; in `target_modules`, the word
    /// `all-linear` means every linear layer except the output layer.
    Pattern(String),
    /// Names: whole paths, or the ends of paths, starting after a dot.
    List(Vec<String>),
}

impl TargetModules {
    /// A list of names.
    pub fn list<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::List(names.into_iter().map(Into::into).collect())
    }

    /// Whether this is the word `all-linear`, in any case.
    pub fn is_all_linear(&self) -> bool {
        matches!(self, Self::Pattern(pattern) if pattern.eq_ignore_ascii_case("all-linear"))
    }

    /// Whether it selects nothing (`""` or `[]`).
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.is_empty(),
            Self::List(names) => names.is_empty(),
        }
    }
}

/// A string is a regular expression for whole paths, or `all-linear`, as in a file.
impl From<&str> for TargetModules {
    fn from(pattern: &str) -> Self {
        Self::Pattern(pattern.to_string())
    }
}

/// A string is a regular expression for whole paths, or `all-linear`, as in a file.
impl From<String> for TargetModules {
    fn from(pattern: String) -> Self {
        Self::Pattern(pattern)
    }
}

/// Names: whole paths, or the ends of paths, starting after a dot.
impl<S: Into<String>, const N: usize> From<[S; N]> for TargetModules {
    fn from(names: [S; N]) -> Self {
        Self::list(names)
    }
}

/// Names: whole paths, or the ends of paths, starting after a dot.
impl<S: Into<String>> From<Vec<S>> for TargetModules {
    fn from(names: Vec<S>) -> Self {
        Self::list(names)
    }
}

/// Names: whole paths, or the ends of paths, starting after a dot.
impl From<&[&str]> for TargetModules {
    fn from(names: &[&str]) -> Self {
        Self::list(names.iter().copied())
    }
}

impl fmt::Display for TargetModules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => write!(f, "{pattern:?}"),
            Self::List(names) => write!(f, "{names:?}"),
        }
    }
}

/// PEFT's `task_type`: what the model is trained for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum TaskType {
    #[serde(rename = "CAUSAL_LM")]
    #[default]
    CausalLm,
    #[serde(rename = "SEQ_CLS")]
    SeqCls,
    #[serde(rename = "SEQ_2_SEQ_LM")]
    Seq2SeqLm,
    #[serde(rename = "TOKEN_CLS")]
    TokenCls,
    #[serde(rename = "QUESTION_ANS")]
    QuestionAns,
    #[serde(rename = "FEATURE_EXTRACTION")]
    FeatureExtraction,
}

impl TaskType {
    /// The names of the heads that are saved with every adapter for this task.
    pub(crate) fn heads(self) -> &'static [&'static str] {
        match self {
            Self::SeqCls | Self::TokenCls => &["classifier", "score"],
            _ => &[],
        }
    }
}

/// As in a file, with its quotation marks.
impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", json!(self))
    }
}

/// Keys of a classifier's `config.json` that may be stored beside an adapter, if the model's own
/// file lacks them. PEFT does not write them.
pub const HEAD_KEYS: [&str; 5] = [
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "pad_token_id",
];

/// The keys of [`CommonConfig`] that choose layers. Not every method's file has all of them; the
/// file of a method at the model has none.
pub(crate) const LAYER_KEYS: [&str; 4] = [
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
];

/// The keys that all layer methods share, with PEFT's defaults.
#[derive(Clone, Debug, Default, PartialEq, burn_peft_derive::KeyDocs)]
pub struct CommonConfig {
    /// What the model is trained for.
    pub task_type: Option<TaskType>,
    /// The base model: a folder or a Hub id.
    pub base_model_name_or_path: Option<String>,
    /// The base model's revision on the Hub.
    pub revision: Option<String>,
    /// Whether the adapter is meant for inference only; true in a saved file.
    pub inference_mode: bool,
    /// The base model's Python class, for models without a task type. Kept, not used.
    pub auto_mapping: Option<Value>,
    /// The version of PEFT that wrote the file; `None` is written as [`PEFT_VERSION`].
    pub peft_version: Option<String>,
    /// The layers to adapt; `None` is the default for the model's type.
    pub target_modules: Option<TargetModules>,
    /// Layers not to adapt though `target_modules` names them.
    pub exclude_modules: Option<TargetModules>,
    /// The blocks to adapt, by index; requires a list of target modules.
    pub layers_to_transform: Option<OneOrMany<i64>>,
    /// The name of the list of blocks (`h`, `layers`), as a regular expression.
    pub layers_pattern: Option<OneOrMany<String>>,
    /// Modules to copy, train and save in full.
    pub modules_to_save: Option<Vec<String>>,
    /// Unknown keys, which are written back unchanged.
    pub unknown: Map<String, Value>,
    /// Keys of unsupported features of PEFT, which have to be turned off. They are written back
    /// unchanged, and left out if no file had them.
    pub turned_off: Map<String, Value>,
}

impl CommonConfig {
    /// Reads the shared keys. The caller reads its own and then sets `unknown` to [`Fields::rest`].
    ///
    /// # Errors
    /// If a value has the wrong type.
    pub fn from_fields(fields: &mut Fields) -> Result<Self> {
        let modules_to_save: Option<OneOrMany<String>> = fields.take("modules_to_save", None)?;
        Ok(Self {
            task_type: fields.take("task_type", None)?,
            base_model_name_or_path: fields.take("base_model_name_or_path", None)?,
            revision: fields.take("revision", None)?,
            inference_mode: fields.take("inference_mode", false)?,
            auto_mapping: fields.take_value("auto_mapping"),
            peft_version: fields.take("peft_version", None)?,
            target_modules: fields.take("target_modules", None)?,
            exclude_modules: fields.take("exclude_modules", None)?,
            layers_to_transform: fields.take("layers_to_transform", None)?,
            layers_pattern: fields.take("layers_pattern", None)?,
            modules_to_save: modules_to_save.map(|names| names.as_slice().to_vec()),
            unknown: Map::new(),
            turned_off: Map::new(),
        })
    }

    /// The shared keys, `peft_type` and the unknown keys, for [`super::render_json`].
    pub fn to_json(&self, peft_type: &str) -> Map<String, Value> {
        let version = self.peft_version.as_deref().unwrap_or(PEFT_VERSION);
        let mut map = self.unknown.clone();
        map.extend(self.turned_off.clone());
        map.extend(
            [
                ("peft_type", json!(peft_type)),
                ("task_type", json!(self.task_type)),
                (
                    "base_model_name_or_path",
                    json!(self.base_model_name_or_path),
                ),
                ("revision", json!(self.revision)),
                ("inference_mode", json!(self.inference_mode)),
                ("auto_mapping", json!(self.auto_mapping)),
                ("peft_version", json!(version)),
                ("target_modules", json!(self.target_modules)),
                ("exclude_modules", json!(self.exclude_modules)),
                ("layers_to_transform", json!(self.layers_to_transform)),
                ("layers_pattern", json!(self.layers_pattern)),
                ("modules_to_save", json!(self.modules_to_save)),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        map
    }

    /// The same, with the heads of its task added to the modules to save, if there are any.
    pub(crate) fn with_heads(&self) -> Self {
        let heads = self.task_type.map_or(&[][..], TaskType::heads);
        let mut saved = self.modules_to_save.clone().unwrap_or_default();
        for head in heads {
            if saved.iter().all(|name| name != head) {
                saved.push((*head).to_string());
            }
        }
        let mut common = self.clone();
        if !heads.is_empty() {
            common.modules_to_save = Some(saved);
        }
        common
    }

    /// The block indices to adapt; empty if all are (PEFT treats `[]` as not given).
    pub fn layer_indices(&self) -> &[i64] {
        self.layers_to_transform
            .as_ref()
            .map_or(&[], OneOrMany::as_slice)
    }

    /// The names of the list of blocks; empty if any name will do.
    pub fn layer_patterns(&self) -> &[String] {
        self.layers_pattern.as_ref().map_or(&[], OneOrMany::given)
    }

    /// Checks what the types cannot: combinations of keys.
    ///
    /// # Errors
    /// If `layers_to_transform` or `layers_pattern` is given with a pattern in `target_modules`, or
    /// `layers_pattern` without `layers_to_transform`.
    pub fn validate(&self) -> Result<()> {
        let (indices, patterns) = (self.layer_indices(), self.layer_patterns());
        if let Some(target @ TargetModules::Pattern(_)) = &self.target_modules {
            let (keys, value): (&[_], _) = match (indices, patterns) {
                ([], []) => return Ok(()),
                ([], patterns) => (
                    &["layers_pattern", "target_modules"],
                    format!("{patterns:?}"),
                ),
                (indices, _) => (
                    &["layers_to_transform", "target_modules"],
                    format!("{indices:?}"),
                ),
            };
            return Err(PeftError::conflict(
                keys,
                format!(
                    "{} = {value} cannot be used with a pattern, target_modules = \
                     {target}: list the names of the layers, or write the indices into the \
                     pattern",
                    keys[0]
                ),
            ));
        }
        if indices.is_empty() && !patterns.is_empty() {
            return Err(PeftError::conflict(
                &["layers_pattern", "layers_to_transform"],
                format!(
                    "layers_pattern = {patterns:?} needs layers_to_transform, the indices to adapt"
                ),
            ));
        }
        Ok(())
    }
}
