//! Classifying texts: one label, several labels, or a number.

use std::collections::HashSet;
use std::sync::Arc;

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, Classes, LABELS_PER_TOKEN, LabelKind, Task, forward_task};
use burn_peft_models::{CausalLm, Checkpointed, Labels, ProblemType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::config::TrainConfig;
use crate::configuration::keys::fields_of;
use crate::error::{ConfigProblem, Result};
use crate::objective::by_class::{ByClass, Confusion};
use crate::objective::heads::{checkpointed, scores};
use crate::objective::label_weights::LabelWeights;
use crate::objective::metric::{Measures, Sums};
use crate::objective::registry::Kind;
use crate::objective::scoring::{EVERYTHING, NUMBER, ONE, SEVERAL, confusion, hits, of_labels};
use crate::objective::weighted::{check_weights, cross_entropy, known_weights, row_of, sum_of};
use crate::objective::{Objective, read_all};

/// `[classify]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifyConfig {
    /// The names of the labels, by number; unless set, those of the model, or else of the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// The kind of problem, in transformers' words; detected from the rows unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<ProblemType>,
    /// The weight of a text in the loss, by its label (`weight` of torch's `CrossEntropyLoss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<LabelWeights>,
    /// The weight of having a label relative to not having it, for several labels (`pos_weight` of
    /// torch's `BCEWithLogitsLoss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pos_weight: Option<LabelWeights>,
}

impl ClassifyConfig {
    /// The labels and the kind of problem.
    pub fn task(&self) -> Classes {
        let names = self.labels.clone().unwrap_or_default();
        let kind = match self.problem_type {
            Some(ProblemType::Regression) => LabelKind::Number,
            Some(ProblemType::MultiLabelClassification) => LabelKind::Several,
            _ => LabelKind::One,
        };
        Classes {
            names,
            kind,
            takes_unlabelled: false,
        }
    }

    /// The same for a model.
    pub fn head_labels(&self) -> Option<Labels> {
        let labels = self.labels.clone();
        labels.map(|names| Labels {
            names,
            problem_type: self.problem_type,
        })
    }
}

/// The entry of the registry.
pub(crate) static KIND: Kind = Kind {
    name: "classify",
    task_type: TaskType::SeqCls,
    num_labels: None,
    measures: &EVERYTHING,
    keys: fields_of::<ClassifyConfig>,
    has_table: |config| config.classify.is_some(),
    max_length: |_| None,
    fill: |config| {
        config.classify.get_or_insert_default();
    },
    check: |config| {
        no_packing(config, "a label")?;
        let classify = config.classify.clone().unwrap_or_default();
        check_labels(&classify)
            .and_then(|()| check_room(&classify, config.data.max_length))
            .and_then(|()| check_of_kind(&classify))
            .map_err(ConfigProblem::Objective)
    },
    task: |config| Arc::new(config.classify.clone().unwrap_or_default().task()),
    reference: |_| false,
    build: |config, _| {
        let table = config.classify.clone().unwrap_or_default();
        let names = table.labels.clone().unwrap_or_default();
        let class_weights = known_weights(
            "classify.class_weights",
            table.class_weights.as_ref(),
            &names,
        )?;
        let pos_weight = known_weights("classify.pos_weight", table.pos_weight.as_ref(), &names)?;
        Ok(Arc::new(Classify {
            task: table.task(),
            class_weights,
            pos_weight,
        }))
    },
};

/// Rejects more labels than the tokens of a row can store, if a text has several.
fn check_room(
    config: &ClassifyConfig,
    max_length: Option<usize>,
) -> std::result::Result<(), String> {
    let count = config.labels.as_ref().map_or(0, Vec::len);
    let is_of_several = config.problem_type == Some(ProblemType::MultiLabelClassification);
    let least = count.div_ceil(LABELS_PER_TOKEN);
    match max_length.filter(|max| is_of_several && *max < least) {
        Some(max) => Err(format!(
            "data.max_length is {max}, and {count} labels, of which a token keeps {LABELS_PER_TOKEN}, \
             need {least} or more"
        )),
        None => Ok(()),
    }
}

/// Rejects weights that the loss cannot use.
fn check_of_kind(config: &ClassifyConfig) -> std::result::Result<(), String> {
    let (weights, pos) = (&config.class_weights, &config.pos_weight);
    let labels = config.labels.as_deref();
    check_weights("classify.class_weights", weights.as_ref(), labels)?;
    check_weights("classify.pos_weight", pos.as_ref(), labels)?;
    match config.problem_type {
        Some(ProblemType::MultiLabelClassification) if weights.is_some() => Err(
            "classify.class_weights is for one label for each text, and classify.problem_type = \
             \"multi_label_classification\" has several: use classify.pos_weight"
                .into(),
        ),
        Some(ProblemType::SingleLabelClassification) if pos.is_some() => Err(
            "classify.pos_weight is for several labels for each text, and classify.problem_type = \
             \"single_label_classification\" has one: use classify.class_weights"
                .into(),
        ),
        Some(ProblemType::Regression) if weights.is_some() || pos.is_some() => Err(
            "classify.class_weights and classify.pos_weight are for labels, and classify.problem_type = \
             \"regression\" is for a number: leave them out"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// Rejects rows of several texts which each have `what` of their own.
pub(crate) fn no_packing(
    config: &TrainConfig,
    what: &str,
) -> std::result::Result<(), ConfigProblem> {
    if !config.data.packing {
        return Ok(());
    }
    let problem = format!(
        "data.packing = true puts several texts into one row, and each has {what} of its own: leave it out"
    );
    Err(ConfigProblem::Objective(problem))
}

/// Rejects invalid or repeated label names.
pub(crate) fn check_names(key: &str, names: &[String]) -> std::result::Result<(), String> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(format!("{key} names {name:?} twice")),
        None if names.is_empty() => Err(format!("{key} is empty")),
        None => Ok(()),
    }
}

/// Rejects labels that do not make a task.
fn check_labels(config: &ClassifyConfig) -> std::result::Result<(), String> {
    let Some(labels) = &config.labels else {
        return Ok(());
    };
    check_names("classify.labels", labels)?;
    match (config.problem_type, labels.len()) {
        (Some(ProblemType::Regression), count) if count > 1 => Err(format!(
            "classify.problem_type = \"regression\" is for one number, and classify.labels has {count}"
        )),
        (Some(ProblemType::SingleLabelClassification) | None, 1) => Err(
            "classify.labels has one label: there is nothing to choose from; a number is learnt with \
             classify.problem_type = \"regression\""
                .into(),
        ),
        _ => Ok(()),
    }
}

/// The objective.
#[derive(Clone, Debug)]
pub struct Classify {
    task: Classes,
    class_weights: Option<Vec<f64>>,
    pos_weight: Option<Vec<f64>>,
}

impl Classify {
    /// For these labels, all with the same weight.
    pub fn new(task: Classes) -> Self {
        Self {
            task,
            class_weights: None,
            pos_weight: None,
        }
    }

    /// The same, with a weight for each label: for single labels, of its texts; for several labels,
    /// of having it.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Self {
        match self.task.kind {
            LabelKind::Several => self.pos_weight = Some(weights),
            _ => self.class_weights = Some(weights),
        }
        self
    }

    /// The label of each text of a batch, if that is one label or a number.
    fn labels(batch: &Batch) -> Vec<i64> {
        batch.example_labels().map(|labels| labels[0]).collect()
    }

    /// The total weight of a batch's labels, if they do not all weigh 1.
    fn weight(&self, batch: &Batch) -> Option<f64> {
        let weights = self.class_weights.as_ref()?;
        Some(sum_of(weights, &Self::labels(batch)))
    }

    /// The sum of the losses, `[1]`, for scores `[texts, labels]`.
    pub(crate) fn loss_of(&self, scores: Tensor<2>, batch: &Batch) -> Tensor<1> {
        let device = scores.device();
        match self.task.kind {
            LabelKind::One => {
                cross_entropy(scores, &Self::labels(batch), self.class_weights.as_deref())
            }
            LabelKind::Several => {
                let [_, count] = scores.dims();
                let marks = marks(batch, count, &device);
                let (yes, no) = (log_sigmoid(scores.clone()), log_sigmoid(scores.neg()));
                let mut yes = marks.clone() * yes;
                if let Some(weights) = &self.pos_weight {
                    yes = yes * row_of(weights, &device);
                }
                let each = yes + (marks.neg() + 1.0) * no;
                each.sum().neg() / count as f64
            }
            LabelKind::Number => {
                let labels = Self::labels(batch).into_iter();
                let numbers: Vec<f32> = labels.map(Classes::number).collect();
                let rows = numbers.len();
                let numbers = Tensor::<2>::from_data(TensorData::new(numbers, [rows, 1]), &device);
                (scores - numbers).powi_scalar(2).sum()
            }
        }
    }
}

/// 1 for each label that a text has, 0 for the others, `[texts, labels]`.
fn marks(batch: &Batch, count: usize, device: &Device) -> Tensor<2> {
    let rows = batch.example_labels();
    let marks = rows.flat_map(|labels| (0..count).map(|id| Classes::has(labels, id)));
    let marks: Vec<f32> = marks.map(|mark| if mark { 1.0 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(marks, [batch.len(), count]), device)
}

impl Task for Classify {
    forward_task!(self => self.task);
}

impl<M: CausalLm> Objective<M> for Classify {
    fn measures(&self) -> &'static Measures {
        match self.task.kind {
            LabelKind::One => &ONE,
            LabelKind::Several => &SEVERAL,
            LabelKind::Number => &NUMBER,
        }
    }

    fn denominator(&self, batch: &Batch) -> f64 {
        self.weight(batch).unwrap_or(batch.len() as f64)
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.loss_of(scores(model, batch), batch)
    }

    fn checkpointed_backward(&self, model: &M, batch: &Batch, weight: f64) -> Option<Checkpointed> {
        let loss = |scores| self.loss_of(scores, batch) * weight;
        checkpointed(model, batch, &loss)
    }

    fn by_class(&self, sums: &Sums) -> Option<ByClass> {
        let names = &self.task.names;
        match self.task.kind {
            LabelKind::One => {
                let confusion = Confusion::of_pairs(names, &sums.pairs);
                let hits = confusion.hits();
                Some(ByClass::new("label", names, &hits, false, Some(confusion)))
            }
            LabelKind::Several => {
                let hits: Vec<_> = of_labels(sums).collect();
                Some(ByClass::new("label", names, &hits, true, None))
            }
            LabelKind::Number => None,
        }
    }

    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        let scores = scores(model, batch);
        let [rows, count] = scores.dims();
        let labels = Self::labels(batch);
        let loss = self.loss_of(scores.clone(), batch);
        let mut numbers = read_all(Tensor::cat(vec![loss, scores.reshape([rows * count])], 0))?;
        let scores = numbers.split_off(1);
        let (sums, pairs) = match self.task.kind {
            LabelKind::One => confusion(&scores, &labels, count),
            LabelKind::Several => (hits(&scores, batch.example_labels(), count), Vec::new()),
            LabelKind::Number => {
                let pairs = scores.iter().zip(&labels);
                let pairs =
                    pairs.map(|(&score, &label)| [score, f64::from(Classes::number(label))]);
                (Vec::new(), pairs.collect())
            }
        };
        Ok(Sums {
            loss: numbers[0],
            count: rows,
            weight: self.weight(batch),
            sums,
            pairs,
            ..Sums::default()
        })
    }
}
