//! Heads that score labels in place of the language-model head: for a text, or for each of its
//! tokens. An embedding model has no head.

use std::collections::HashSet;
use std::fmt;

use burn::nn::{Dropout, DropoutConfig};
use burn_peft::config::TaskType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{MAX_SIZE, ModelConfig};

/// The head of a model: its task, and the labels that it scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// `CausalLm`, `SeqCls`, `TokenCls`, or `FeatureExtraction`, which has no head.
    pub task: TaskType,
    /// The labels; none for a language model.
    pub labels: Labels,
    /// The padding token: a text is judged by its last token that is not padding.
    pub pad_token_id: Option<i64>,
    /// Whether a text is judged by its first token, as in encoders.
    pub judges_first: bool,
}

/// The labels of a classifier (`id2label`), and the kind of problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Their names, by number.
    pub names: Vec<String>,
    /// The kind of problem, if the configuration gives it.
    pub problem_type: Option<ProblemType>,
}

/// transformers' `problem_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// A number for each label.
    Regression,
    /// Exactly one of the labels.
    SingleLabelClassification,
    /// Any number of the labels.
    MultiLabelClassification,
}

impl fmt::Display for ProblemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regression => "regression",
            Self::SingleLabelClassification => "single_label_classification",
            Self::MultiLabelClassification => "multi_label_classification",
        })
    }
}

impl Labels {
    /// This many labels, with transformers' names: `LABEL_0`, `LABEL_1`, …
    pub fn numbered(count: usize) -> Self {
        Self {
            names: (0..count).map(|id| format!("LABEL_{id}")).collect(),
            problem_type: None,
        }
    }

    /// The labels in the keys of a `config.json` or an `adapter_config.json`; `None` if they name
    /// none.
    ///
    /// # Errors
    /// If a key has an invalid value.
    pub fn of(keys: &Map<String, Value>) -> Result<Option<Self>, String> {
        let given = |key: &str| keys.get(key).filter(|value| !value.is_null());
        let names = match (given("id2label"), given("num_labels")) {
            (Some(value), _) => {
                let names = names_of(value).ok_or_else(|| {
                    format!(
                        "id2label = {value}: expected the names of the labels by \"0\", \"1\", …"
                    )
                })?;
                let mut seen = HashSet::new();
                if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
                    return Err(format!("id2label names {name:?} twice"));
                }
                names
            }
            (None, Some(value)) => {
                let count = value.as_u64().filter(|count| *count <= MAX_SIZE as u64);
                let count = count.filter(|count| *count > 0);
                let wrong = || format!("num_labels = {value} is not between 1 and {MAX_SIZE}");
                Self::numbered(count.ok_or_else(wrong)? as usize).names
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            names,
            problem_type: Self::problem_type_of(keys)?,
        }))
    }

    /// The kind of problem, if the keys give it.
    ///
    /// # Errors
    /// If the value is not one of transformers'.
    pub fn problem_type_of(keys: &Map<String, Value>) -> Result<Option<ProblemType>, String> {
        let given = keys.get("problem_type").filter(|value| !value.is_null());
        let read = |value: &Value| {
            serde_json::from_value(value.clone()).map_err(|_| {
                format!(
                    "problem_type = {value}: expected \"regression\", \
                     \"single_label_classification\" or \"multi_label_classification\""
                )
            })
        };
        given.map(read).transpose()
    }

    /// The keys that express the same: `id2label`, `label2id` and, if known, `problem_type`.
    pub fn keys(&self) -> Map<String, Value> {
        let by_id = self.names.iter().enumerate();
        let by_id: Map<String, Value> = by_id
            .map(|(id, name)| (id.to_string(), json!(name)))
            .collect();
        let by_name = self.names.iter().enumerate();
        let by_name: Map<String, Value> = by_name
            .map(|(id, name)| (name.clone(), json!(id)))
            .collect();
        let mut keys = Map::new();
        keys.insert("id2label".into(), by_id.into());
        keys.insert("label2id".into(), by_name.into());
        if let Some(problem_type) = self.problem_type {
            keys.insert("problem_type".into(), json!(problem_type));
        }
        keys
    }
}

/// The names in an `id2label`, by number.
fn names_of(value: &Value) -> Option<Vec<String>> {
    let map = value.as_object().filter(|map| !map.is_empty())?;
    let names = (0..map.len()).map(|id| map.get(&id.to_string())?.as_str().map(str::to_string));
    names.collect()
}

impl Head {
    /// The head that the keys of a `config.json` describe: `architectures` gives its task.
    ///
    /// # Errors
    /// As [`Labels::of`].
    pub fn of(keys: &Map<String, Value>) -> Result<Self, String> {
        let class = keys.get("architectures").and_then(|classes| classes.get(0));
        let class = class.and_then(Value::as_str).unwrap_or_default();
        let task = if class.ends_with("ForSequenceClassification") {
            TaskType::SeqCls
        } else if class.ends_with("ForTokenClassification") {
            TaskType::TokenCls
        } else if class.ends_with("Model") && !class.contains("Head") {
            // `Qwen3Model`, not `GPT2LMHeadModel`.
            TaskType::FeatureExtraction
        } else {
            return Ok(Self::default());
        };
        Self::for_task(keys, task)
    }

    /// A head for a task, with the labels in the keys of a `config.json`.
    ///
    /// # Errors
    /// As [`Labels::of`].
    pub fn for_task(keys: &Map<String, Value>, task: TaskType) -> Result<Self, String> {
        if !Self::scores_labels(task) {
            return Ok(Self {
                task,
                ..Self::default()
            });
        }
        let labels = Labels::of(keys)?;
        Ok(Self {
            task,
            // As transformers does, which never writes the default names of two labels.
            labels: labels.unwrap_or_else(|| Labels::numbered(2)),
            pad_token_id: keys.get("pad_token_id").and_then(Value::as_i64),
            judges_first: false,
        })
    }

    /// The same head, judging a text by its first token, as encoders do.
    pub(crate) fn judging_first(self) -> Self {
        Self {
            judges_first: true,
            ..self
        }
    }

    /// Whether it scores labels instead of tokens.
    pub fn classifies(&self) -> bool {
        Self::scores_labels(self.task)
    }

    fn scores_labels(task: TaskType) -> bool {
        matches!(task, TaskType::SeqCls | TaskType::TokenCls)
    }

    /// Whether it scores tokens, as the head of a language model does.
    pub fn predicts_tokens(&self) -> bool {
        self.task == TaskType::CausalLm
    }

    /// Whether there is no head, so that the model returns its hidden states (transformers'
    /// `AutoModel`).
    pub fn is_none(&self) -> bool {
        self.task == TaskType::FeatureExtraction
    }

    /// The number of labels.
    pub fn num_labels(&self) -> usize {
        self.labels.names.len()
    }

    /// The suffix of transformers' class of such a model; `None` for a language model, whose class
    /// name depends on the family.
    pub(crate) fn class(&self) -> Option<&'static str> {
        match self.task {
            TaskType::SeqCls => Some("ForSequenceClassification"),
            TaskType::TokenCls => Some("ForTokenClassification"),
            TaskType::FeatureExtraction => Some("Model"),
            _ => None,
        }
    }

    /// Sets the keys of a `config.json` that describe it.
    pub(crate) fn write(&self, keys: &mut Map<String, Value>, class: &str) {
        keys.insert("architectures".into(), json!([class]));
        if self.is_none() {
            return;
        }
        keys.remove("num_labels");
        keys.remove("problem_type");
        keys.extend(self.labels.keys());
        if let Some(id) = self.pad_token_id {
            keys.insert("pad_token_id".into(), json!(id));
        }
    }

    /// As [`write`](Self::write), for a configuration with a field of its own for the padding
    /// token.
    pub(crate) fn write_beside(
        &self,
        keys: &mut Map<String, Value>,
        class: &str,
        pad_token_id: &mut Option<i64>,
    ) {
        self.write(keys, class);
        keys.remove("pad_token_id");
        *pad_token_id = self.pad_token_id.or(*pad_token_id);
    }

    /// The kind of problem if nothing gives it: regression for one label, single-label
    /// classification for more.
    pub fn usual(&self) -> ProblemType {
        match self.num_labels() {
            1 => ProblemType::Regression,
            _ => ProblemType::SingleLabelClassification,
        }
    }

    /// The keys that describe it beside an adapter, if the model's own `config.json` does not:
    /// label names other than numbered ones, and the padding token.
    pub fn keys_beside(&self, config: &Map<String, Value>) -> Map<String, Value> {
        let mut keys = Map::new();
        let own = Self::for_task(config, self.task).unwrap_or_default();
        let is_numbered = self.labels.names == Labels::numbered(self.num_labels()).names;
        let is_named = own.labels.names != self.labels.names && !is_numbered;
        if is_named {
            keys.extend(self.labels.keys());
        } else if let Some(problem_type) = self.labels.problem_type
            && own.labels.problem_type != self.labels.problem_type
            && self.usual() != problem_type
        {
            keys.insert("problem_type".into(), json!(problem_type));
        }
        if let Some(id) = self
            .pad_token_id
            .filter(|_| own.pad_token_id != self.pad_token_id)
        {
            keys.insert("pad_token_id".into(), json!(id));
        }
        keys
    }

    /// The index of the token that a text is judged by: the last that is not padding (without a
    /// padding token, the last); in encoders the first.
    pub fn judged_token(&self, ids: &[i64]) -> usize {
        match self.pad_token_id {
            _ if self.judges_first => 0,
            None => ids.len().saturating_sub(1),
            Some(pad) => ids.iter().rposition(|&id| id != pad).unwrap_or(0),
        }
    }
}

/// Families for which transformers has no head of a kind.
const WITHOUT: &[(&str, TaskType)] = &[
    ("apertus", TaskType::SeqCls),
    ("cohere2", TaskType::SeqCls),
    ("cohere2", TaskType::TokenCls),
    ("ernie4_5", TaskType::SeqCls),
    ("ernie4_5", TaskType::TokenCls),
    ("gemma3", TaskType::TokenCls),
    ("gemma3_text", TaskType::TokenCls),
    ("granite", TaskType::SeqCls),
    ("granite", TaskType::TokenCls),
    ("hunyuan_v1_dense", TaskType::TokenCls),
    ("olmo2", TaskType::TokenCls),
    ("olmo3", TaskType::TokenCls),
];

/// A head to open a model with, instead of the one in its files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WantedHead {
    /// Its task.
    pub task: TaskType,
    /// The labels, if not the model's own.
    pub labels: Option<Labels>,
    /// The kind of problem, if not the model's own.
    pub problem_type: Option<ProblemType>,
    /// The number of labels, if nothing names them.
    pub num_labels: Option<usize>,
    /// The padding token, instead of the one in the model's configuration.
    pub pad_token_id: Option<i64>,
    /// The seed for its weight, if the files have none.
    pub seed: u64,
}

impl WantedHead {
    /// Whether it is no head.
    pub fn is_none(&self) -> bool {
        self.task == TaskType::FeatureExtraction
    }

    /// No head: the model returns its hidden states.
    pub fn none() -> Self {
        Self {
            task: TaskType::FeatureExtraction,
            ..Self::default()
        }
    }

    /// The head for a model of this configuration.
    ///
    /// # Errors
    /// As [`Labels::of`], or if transformers has no such head for the family.
    pub(crate) fn for_config(&self, config: &impl ModelConfig) -> Result<Head, String> {
        let mut head = Head::for_task(&config.to_map(), self.task)?;
        let family = config.common().model_type;
        if WITHOUT.contains(&(family.as_str(), self.task)) {
            return Err(format!(
                "model_type = {family:?} cannot have task_type = {}: transformers has no such head \
                 for it",
                self.task
            ));
        }
        if let Some(labels) = &self.labels {
            head.labels = labels.clone();
        }
        if let Some(count) = self.num_labels.filter(|&count| count != head.num_labels()) {
            head.labels = Labels::numbered(count);
        }
        head.labels.problem_type = self.problem_type.or(head.labels.problem_type);
        head.pad_token_id = self.pad_token_id.or(head.pad_token_id);
        if head.classifies() && head.num_labels() == 0 {
            return Err("the requested head scores no labels".into());
        }
        let own = config.head();
        if head.classifies() && own.task == self.task && own.num_labels() != head.num_labels() {
            return Err(format!(
                "the model has a head of {} labels, and {} are wanted: name a model without a head, or \
                 with one of that size",
                own.num_labels(),
                head.num_labels()
            ));
        }
        Ok(head)
    }
}

/// The dropout before the head of a token classifier; other heads have none.
pub(crate) fn head_dropout(task: TaskType, keys: &Map<String, Value>) -> Option<Dropout> {
    let given = |key: &str| keys.get(key).and_then(Value::as_f64);
    let probability = given("classifier_dropout").or_else(|| given("hidden_dropout"));
    let dropout = DropoutConfig::new(probability.unwrap_or(0.1).clamp(0.0, 1.0));
    (task == TaskType::TokenCls).then(|| dropout.init())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn architectures_say_what_a_head_is_for() {
        let llama = r#"{"architectures": ["LlamaForCausalLM"], "id2label": "broken"}"#;
        assert_eq!(Head::of(&keys(llama)), Ok(Head::default()));
        let none = Head::of(&keys(r#"{"architectures": ["Qwen3Model"]}"#)).unwrap();
        assert!(none.is_none() && !none.classifies() && !none.predicts_tokens());
        let gpt2 = r#"{"architectures": ["GPT2LMHeadModel"]}"#;
        assert_eq!(Head::of(&keys(gpt2)), Ok(Head::default()));
        let two = Head::of(&keys(
            r#"{"architectures": ["XForSequenceClassification"]}"#,
        ))
        .unwrap();
        assert_eq!((two.task, two.num_labels()), (TaskType::SeqCls, 2));
        let one = r#"{"architectures": ["XForTokenClassification"], "id2label": {"0": "O"},
            "pad_token_id": 7}"#;
        let one = Head::of(&keys(one)).unwrap();
        assert_eq!(
            (one.task, &one.labels.names[..]),
            (TaskType::TokenCls, &["O".to_string()][..])
        );
        let twice = Labels::of(&keys(r#"{"id2label": {"0": "O", "1": "O"}}"#));
        assert_eq!(twice.unwrap_err(), "id2label names \"O\" twice");
        let text = r#"{"architectures": ["XForTokenClassification"], "id2label": {"1": "O"}}"#;
        assert!(
            Head::of(&keys(text))
                .unwrap_err()
                .starts_with("id2label = ")
        );
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let mut labels = Labels::numbered(3);
        labels.problem_type = Some(ProblemType::MultiLabelClassification);
        assert_eq!(Labels::of(&labels.keys()), Ok(Some(labels)));
        assert_eq!(Labels::of(&Map::new()), Ok(None));
        let count = keys(r#"{"num_labels": 1}"#);
        assert_eq!(Labels::of(&count), Ok(Some(Labels::numbered(1))));
        assert!(Labels::of(&keys(r#"{"num_labels": 0}"#)).is_err());
        assert!(Labels::of(&keys(r#"{"num_labels": 1, "problem_type": "x"}"#)).is_err());
    }

    #[test]
    fn the_last_token_that_is_no_padding_counts() {
        let head = |pad_token_id| Head {
            pad_token_id,
            ..Head::default()
        };
        assert_eq!(head(Some(1)).judged_token(&[5, 1, 6, 1, 1]), 2);
        assert_eq!(head(Some(1)).judged_token(&[1, 1]), 0);
        assert_eq!(head(None).judged_token(&[5, 1, 1]), 2);
        assert_eq!(head(None).judged_token(&[]), 0);
    }
}
