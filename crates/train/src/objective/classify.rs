//! Classification of texts: one label, several, or a number.

use std::collections::HashSet;
use std::sync::Arc;

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, Classes, LabelKind, MOST_OF_SEVERAL, Task, forward_task};
use burn_peft_models::{CausalLm, Checkpointed, Labels, ProblemType};
use serde::{Deserialize, Serialize};

use crate::configuration::config::TrainConfig;
use crate::configuration::keys::fields_of;
use crate::error::{ConfigProblem, Result};
use crate::objective::heads::{checkpointed, scores};
use crate::objective::metric::{Measures, Sums};
use crate::objective::registry::Kind;
use crate::objective::scoring::{EVERYTHING, NUMBER, ONE, SEVERAL, confusion, hits, marked};
use crate::objective::{Objective, read_all};

/// `[classify]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifyConfig {
    /// The names of the labels, by number; those of the model, or else of the rows, unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// What is learnt, in transformers' words; told from the rows unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<ProblemType>,
}

impl ClassifyConfig {
    /// The labels and what is learnt of them.
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
        no_packing(config)?;
        let classify = config.classify.clone().unwrap_or_default();
        check_labels(&classify).map_err(ConfigProblem::Objective)
    },
    task: |config| Arc::new(config.classify.clone().unwrap_or_default().task()),
    reference: |_| false,
    build: |config, _| {
        let task = config.classify.clone().unwrap_or_default().task();
        Ok(Arc::new(Classify::new(task)))
    },
};

/// Refuses several texts in one row.
pub(crate) fn no_packing(config: &TrainConfig) -> std::result::Result<(), ConfigProblem> {
    if !config.data.packing {
        return Ok(());
    }
    let problem = "data.packing = true puts several texts into one row, and each has a label of its own: \
                   leave it out";
    Err(ConfigProblem::Objective(problem.into()))
}

/// Refuses names of labels that are none, or that come twice.
pub(crate) fn check_names(key: &str, names: &[String]) -> std::result::Result<(), String> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(format!("{key} names {name:?} twice")),
        None if names.is_empty() => Err(format!("{key} is empty")),
        None => Ok(()),
    }
}

/// Refuses labels that make no task.
fn check_labels(config: &ClassifyConfig) -> std::result::Result<(), String> {
    let Some(labels) = &config.labels else {
        return Ok(());
    };
    check_names("classify.labels", labels)?;
    match (config.problem_type, labels.len()) {
        (Some(ProblemType::Regression), count) if count > 1 => Err(format!(
            "classify.problem_type = \"regression\" is of one number, and classify.labels has {count}"
        )),
        (Some(ProblemType::SingleLabelClassification) | None, 1) => Err(
            "classify.labels has one label: there is nothing to choose from; a number is learnt with \
             classify.problem_type = \"regression\""
                .into(),
        ),
        (Some(ProblemType::MultiLabelClassification), count) if count > MOST_OF_SEVERAL => {
            Err(format!(
                "classify.labels has {count} labels, and of several at once {MOST_OF_SEVERAL} are \
                 supported at most"
            ))
        }
        _ => Ok(()),
    }
}

/// The objective.
#[derive(Clone, Debug)]
pub struct Classify {
    task: Classes,
}

impl Classify {
    /// For these labels.
    pub fn new(task: Classes) -> Self {
        Self { task }
    }

    /// What each text of a batch is labelled with.
    fn labels(batch: &Batch) -> Vec<i64> {
        batch.example_labels().map(|labels| labels[0]).collect()
    }

    /// The sum of the losses, `[1]`, of scores, `[texts, labels]`.
    fn loss_of(&self, scores: Tensor<2>, labels: &[i64]) -> Tensor<1> {
        let device = scores.device();
        match self.task.kind {
            LabelKind::One => {
                let labels = Tensor::<1, Int>::from_data(labels, &device).unsqueeze_dim(1);
                log_softmax(scores, 1).gather(1, labels).sum().neg()
            }
            LabelKind::Several => {
                let [_, count] = scores.dims();
                let marks = marks(labels, count, &device);
                let (yes, no) = (log_sigmoid(scores.clone()), log_sigmoid(scores.neg()));
                let each = marks.clone() * yes + (marks.neg() + 1.0) * no;
                each.sum().neg() / count as f64
            }
            LabelKind::Number => {
                let numbers: Vec<f32> =
                    labels.iter().map(|&label| Classes::number(label)).collect();
                let rows = numbers.len();
                let numbers = Tensor::<2>::from_data(TensorData::new(numbers, [rows, 1]), &device);
                (scores - numbers).powi_scalar(2).sum()
            }
        }
    }
}

/// 1 for each label that a text has, 0 for the others, `[texts, labels]`.
fn marks(labels: &[i64], count: usize, device: &Device) -> Tensor<2> {
    let rows = labels.iter().flat_map(|&bits| marked(bits, count));
    let marks: Vec<f32> = rows.map(|mark| if mark { 1.0 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(marks, [labels.len(), count]), device)
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

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.loss_of(scores(model, batch), &Self::labels(batch))
    }

    fn checkpointed_backward(&self, model: &M, batch: &Batch, weight: f64) -> Option<Checkpointed> {
        let labels = Self::labels(batch);
        let loss = |scores| self.loss_of(scores, &labels) * weight;
        checkpointed(model, batch, &loss)
    }

    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        let scores = scores(model, batch);
        let [rows, count] = scores.dims();
        let labels = Self::labels(batch);
        let loss = self.loss_of(scores.clone(), &labels);
        let mut numbers = read_all(Tensor::cat(vec![loss, scores.reshape([rows * count])], 0))?;
        let scores = numbers.split_off(1);
        let (sums, pairs) = match self.task.kind {
            LabelKind::One => confusion(&scores, &labels, count),
            LabelKind::Several => (hits(&scores, &labels, count), Vec::new()),
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
            sums,
            pairs,
        })
    }
}
