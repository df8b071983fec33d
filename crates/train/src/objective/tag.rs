//! Classifying tokens: a tag for each word.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, IGNORE_INDEX, Tags, Task, forward_task};
use burn_peft_models::{CausalLm, Checkpointed, Labels};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::keys::fields_of;
use crate::error::{ConfigProblem, Result};
use crate::objective::by_class::{ByClass, Confusion, MOST_CONFUSED};
use crate::objective::classify::{check_names, no_packing};
use crate::objective::entities::{Entity, entities, kinds, same};
use crate::objective::heads::on_device;
use crate::objective::label_weights::LabelWeights;
use crate::objective::metric::{Measures, Metric, Sums, sum};
use crate::objective::registry::Kind;
use crate::objective::scoring::best;
use crate::objective::weighted::{check_weights, cross_entropy, known_weights, sum_of};
use crate::objective::{Objective, read_all};

/// `[tag]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TagConfig {
    /// The names of the tags, by number; unless set, those of the model, or else of the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Whether to tag all pieces of a word instead of only the first.
    pub label_all_tokens: bool,
    /// The weight of a token in the loss, by its tag (`weight` of torch's `CrossEntropyLoss`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<LabelWeights>,
}

impl TagConfig {
    /// The tags, and which pieces of words get them.
    pub fn task(&self) -> Tags {
        Tags {
            names: self.labels.clone().unwrap_or_default(),
            all_pieces: self.label_all_tokens,
            numbers_words: false,
        }
    }

    /// The labels for a model.
    pub fn head_labels(&self) -> Option<Labels> {
        let labels = self.labels.clone();
        labels.map(|names| Labels {
            names,
            problem_type: None,
        })
    }
}

/// The entry of the registry.
pub(crate) static KIND: Kind = Kind {
    name: "tag",
    task_type: TaskType::TokenCls,
    num_labels: None,
    measures: &MEASURES,
    keys: fields_of::<TagConfig>,
    has_table: |config| config.tag.is_some(),
    max_length: |_| None,
    fill: |config| {
        config.tag.get_or_insert_default();
    },
    check: |config| {
        no_packing(config, "tags")?;
        let labels = config.tag.as_ref().and_then(|table| table.labels.as_ref());
        let names = labels.map_or(Ok(()), |names| check_names("tag.labels", names));
        let weights = config
            .tag
            .as_ref()
            .and_then(|table| table.class_weights.as_ref());
        let labels = labels.map(Vec::as_slice);
        names
            .and_then(|()| check_weights("tag.class_weights", weights, labels))
            .map_err(ConfigProblem::Objective)
    },
    task: |config| Arc::new(config.tag.clone().unwrap_or_default().task()),
    reference: |_| false,
    build: |config, _| {
        let table = config.tag.clone().unwrap_or_default();
        let (task, weights) = (table.task(), table.class_weights.as_ref());
        let class_weights = known_weights("tag.class_weights", weights, &task.names)?;
        Ok(Arc::new(Tag {
            task,
            class_weights,
        }))
    },
};

/// What is measured, for tokens and for the entities in their tags (seqeval's figures). The sums
/// are the number of tokens with the right tag, of entities predicted correctly, of entities
/// predicted, and of true entities; then for each kind of entity how often it was predicted
/// correctly, predicted wrongly, and missed; then, unless there are too many tags, how often each
/// was predicted as each.
pub static MEASURES: Measures = Measures {
    unit: "token",
    sums: &["Accuracy"],
    metrics: &[
        Metric::loss("loss (per token)"),
        Metric::mean("accuracy", "accuracy of the tags", true, |sums| {
            sums.mean(sum(sums, 0))
        }),
        Metric::mean("precision", "precision of the entities", true, |sums| {
            share(sum(sums, 1), sum(sums, 2))
        }),
        Metric::mean("recall", "recall of the entities", true, |sums| {
            share(sum(sums, 1), sum(sums, 3))
        }),
        Metric::mean("f1", "F1 of the entities", true, |sums| {
            share(2.0 * sum(sums, 1), sum(sums, 2) + sum(sums, 3))
        }),
    ],
};

fn share(part: f64, of: f64) -> f64 {
    if of == 0.0 { 0.0 } else { part / of }
}

/// The objective.
#[derive(Clone, Debug)]
pub struct Tag {
    task: Tags,
    class_weights: Option<Vec<f64>>,
}

impl Tag {
    /// For these tags, all with the same weight.
    pub fn new(task: Tags) -> Self {
        Self {
            task,
            class_weights: None,
        }
    }

    /// The same, with a weight for the tokens of each tag.
    pub fn with_weights(mut self, weights: Vec<f64>) -> Self {
        self.class_weights = Some(weights);
        self
    }

    fn loss_of(&self, logits: Tensor<2>, labels: &[i64]) -> Tensor<1> {
        cross_entropy(logits, labels, self.class_weights.as_deref())
    }

    /// The total weight of these labels, if tags do not all weigh 1.
    fn weight(&self, labels: &[i64]) -> Option<f64> {
        let weights = self.class_weights.as_ref()?;
        Some(sum_of(weights, labels))
    }
}

/// The labelled tokens of a batch, and their labels.
fn labelled(batch: &Batch) -> (Vec<usize>, Vec<i64>) {
    let labels = batch.labels.iter().copied().enumerate();
    labels.filter(|(_, label)| *label != IGNORE_INDEX).unzip()
}

/// The scores of the tags for each labelled token of a batch, `[labelled, tags]`.
pub fn tag_scores<M: CausalLm>(model: &M, batch: &Batch) -> Tensor<2> {
    model.logits_at(&on_device(model, batch), &labelled(batch).0)
}

impl Task for Tag {
    forward_task!(self => self.task);
}

impl<M: CausalLm> Objective<M> for Tag {
    fn measures(&self) -> &'static Measures {
        &MEASURES
    }

    fn denominator(&self, batch: &Batch) -> f64 {
        let (_, labels) = labelled(batch);
        self.weight(&labels).unwrap_or(labels.len() as f64)
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.loss_of(tag_scores(model, batch), &labelled(batch).1)
    }

    fn checkpointed_backward(&self, model: &M, batch: &Batch, weight: f64) -> Option<Checkpointed> {
        let (places, labels) = labelled(batch);
        let loss = |logits| self.loss_of(logits, &labels) * weight;
        model.checkpointed_logits_at(&on_device(model, batch), &places, &loss)
    }

    fn by_class(&self, sums: &Sums) -> Option<ByClass> {
        let names = &self.task.names;
        let kinds = kinds(names);
        let (hits, _) = sums.sums.get(4..)?.as_chunks::<3>();
        let hits = hits.get(..kinds.as_ref().map_or(0, Vec::len))?;
        let pairs = sums.sums.get(4 + 3 * hits.len()..)?;
        let is_counted = pairs.len() == names.len() * names.len() && !names.is_empty();
        let confusion = is_counted.then(|| {
            let rows = pairs.chunks(names.len());
            let rows = rows.map(|row| row.iter().map(|&count| count as usize).collect());
            Confusion::of_rows(names.clone(), &rows.collect::<Vec<_>>())
        });
        match kinds {
            Some(kinds) => Some(ByClass::new("entity", &kinds, hits, true, confusion)),
            None => {
                let confusion = confusion?;
                let hits = confusion.hits();
                Some(ByClass::new("tag", names, &hits, false, Some(confusion)))
            }
        }
    }

    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        let scores = tag_scores(model, batch);
        let [rows, count] = scores.dims();
        let (_, labels) = labelled(batch);
        let loss = self.loss_of(scores.clone(), &labels);
        let mut numbers = read_all(Tensor::cat(vec![loss, scores.reshape([rows * count])], 0))?;
        let scores = numbers.split_off(1);
        let mut found = scores.chunks(count).map(best);
        let kinds = kinds(&self.task.names).unwrap_or_default();
        let first_pair = 4 + 3 * kinds.len();
        let is_counted = count <= MOST_CONFUSED;
        let mut sums = vec![0.0; first_pair + if is_counted { count * count } else { 0 }];
        let name = |label: usize| self.task.names.get(label).map_or("O", String::as_str);
        for labels in batch.example_labels() {
            let there = labels.iter().filter(|&&label| label != IGNORE_INDEX);
            let pairs: Vec<(usize, usize)> = there
                .map(|&label| (label as usize, found.next().unwrap_or_default()))
                .collect();
            let right = pairs.iter().filter(|(there, found)| there == found);
            sums[0] += right.count() as f64;
            let there = entities(pairs.iter().map(|(there, _)| name(*there)));
            let found = entities(pairs.iter().map(|(_, found)| name(*found)));
            sums[1] += same(&there, &found) as f64;
            sums[2] += found.len() as f64;
            sums[3] += there.len() as f64;
            let mut add = |entity: &Entity, what: usize| {
                if let Some(kind) = kinds.iter().position(|kind| *kind == entity.kind) {
                    sums[4 + 3 * kind + what] += 1.0;
                }
            };
            for entity in &found {
                add(entity, usize::from(!there.contains(entity)));
            }
            let missed = there.iter().filter(|entity| !found.contains(entity));
            missed.for_each(|entity| add(entity, 2));
            if is_counted {
                let known = pairs.iter().filter(|(there, _)| *there < count);
                known.for_each(|(there, found)| sums[first_pair + there * count + found] += 1.0);
            }
        }
        Ok(Sums {
            loss: numbers[0],
            count: rows,
            weight: self.weight(&labels),
            sums,
            ..Sums::default()
        })
    }
}
