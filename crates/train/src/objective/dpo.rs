//! Direct preference optimisation: of two answers to a prompt the better one becomes likelier than it
//! was, beside the worse one.

use std::sync::Arc;

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Int, Tensor, TensorData};
use burn_peft::config::TaskType;
use burn_peft_data::{
    Batch, Content, Encoder, Labelled, Limits, Pairs, Result as DataResult, Rows, Task,
};
use burn_peft_models::CausalLm;
use serde::{Deserialize, Serialize};
use std::ops::Range;

use crate::configuration::keys::fields_of;
use crate::error::ConfigProblem;
use crate::objective::metric::{Measures, Metric};
use crate::objective::reference::{Reference, log_probs};
use crate::objective::registry::Kind;
use crate::objective::{MeasuredLoss, Objective};

/// `[dpo]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// How far the policy may go from the reference: less for more.
    pub beta: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// The entry of the registry.
pub(crate) static KIND: Kind = Kind {
    name: "dpo",
    task_type: TaskType::CausalLm,
    num_labels: None,
    measures: &MEASURES,
    keys: fields_of::<DpoConfig>,
    has_table: |config| config.dpo.is_some(),
    fill: |config| {
        config.dpo.get_or_insert_default();
    },
    check: |config| {
        let beta = config.dpo.clone().unwrap_or_default().beta;
        if beta > 0.0 && beta.is_finite() {
            return Ok(());
        }
        Err(ConfigProblem::Objective(format!(
            "dpo.beta is {beta}; it must be more than 0"
        )))
    },
    task: |_| Arc::new(Pairs::default()),
    reference: |_| true,
    build: |config, reference| {
        let config = config.dpo.clone().unwrap_or_default();
        let reference = reference.expect("an objective with a reference is given one");
        Ok(Arc::new(Dpo::new(config, reference)))
    },
};

/// What is measured.
pub static MEASURES: Measures = Measures {
    unit: "pair",
    sums: &[
        "Chosen",
        "Rejected",
        "Accuracy",
        "Chosen LogP",
        "Rejected LogP",
    ],
    metrics: &[
        Metric::loss("loss (per pair)"),
        Metric::mean("rewards/chosen", "reward of the chosen", true, |sums| {
            sums.mean(sums.sums[0])
        }),
        Metric::mean(
            "rewards/rejected",
            "reward of the rejected",
            false,
            |sums| sums.mean(sums.sums[1]),
        ),
        Metric::mean("rewards/margins", "margin of the rewards", true, |sums| {
            sums.mean(sums.sums[0] - sums.sums[1])
        }),
        Metric::mean(
            "rewards/accuracies",
            "accuracy of the rewards",
            true,
            |sums| sums.mean(sums.sums[2]),
        ),
        Metric::mean(
            "logps/chosen",
            "log-probability of the chosen",
            true,
            |sums| sums.mean(sums.sums[3]),
        ),
        Metric::mean(
            "logps/rejected",
            "log-probability of the rejected",
            false,
            |sums| sums.mean(sums.sums[4]),
        ),
    ],
};

/// The objective.
#[derive(Debug)]
pub struct Dpo<M> {
    config: DpoConfig,
    task: Pairs,
    reference: Reference<M>,
}

impl<M> Dpo<M> {
    /// With the policy that is compared with.
    pub fn new(config: DpoConfig, reference: Reference<M>) -> Self {
        Self {
            config,
            task: Pairs::default(),
            reference,
        }
    }
}

impl<M: CausalLm> Task for Dpo<M> {
    fn rows(&self) -> Rows {
        self.task.rows()
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> DataResult<Vec<Labelled>> {
        self.task.encode(content, encoder)
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        self.task.supervised(labels)
    }

    fn is_trained(&self, labels: &[i64]) -> Vec<bool> {
        self.task.is_trained(labels)
    }

    fn unknown_label(&self, labels: &[i64], limits: Limits) -> Option<i64> {
        self.task.unknown_label(labels, limits)
    }

    fn examples_per_row(&self) -> usize {
        self.task.examples_per_row()
    }

    fn default_length(&self, limits: Limits) -> Option<usize> {
        self.task.default_length(limits)
    }

    fn kept(&self, length: usize, max: usize) -> Range<usize> {
        self.task.kept(length, max)
    }

    fn cache_key(&self) -> Option<String> {
        self.task.cache_key()
    }
}

/// The sum of the log-probabilities of each text, `[texts]`.
fn of_texts(tokens: Tensor<1>, batch: &Batch) -> Tensor<1> {
    let device = tokens.device();
    let mut at = 0;
    let sums = batch.example_labels().map(|labels| {
        let count = Pairs::default().supervised(labels);
        at += count;
        tokens.clone().slice([at - count..at]).sum()
    });
    let sums: Vec<_> = sums.collect();
    debug_assert_eq!(at, tokens.dims()[0], "{device:?}");
    Tensor::cat(sums, 0)
}

/// The chosen and the rejected of pairs, `[pairs]` each.
fn apart(texts: Tensor<1>) -> [Tensor<1>; 2] {
    let pairs = (texts.dims()[0] / 2) as i64;
    [0, 1].map(|side| {
        let places: Vec<i64> = (0..pairs).map(|pair| 2 * pair + side).collect();
        let places = TensorData::new(places, [pairs as usize]);
        texts
            .clone()
            .select(0, Tensor::<1, Int>::from_data(places, &texts.device()))
    })
}

impl<M: CausalLm> Objective<M> for Dpo<M> {
    fn measures(&self) -> &'static Measures {
        &MEASURES
    }

    fn count(&self, batch: &Batch) -> usize {
        batch.spans.len() / 2
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.measured_loss(model, batch).loss
    }

    fn measured_loss(&self, model: &M, batch: &Batch) -> MeasuredLoss {
        let policy = of_texts(log_probs(model, batch), batch);
        let reference = of_texts(self.reference.with(|model| log_probs(model, batch)), batch);
        let [chosen, rejected] = apart(policy);
        let [ref_chosen, ref_rejected] = apart(reference);
        let beta = self.config.beta;
        let won = (chosen.clone() - ref_chosen) * beta;
        let lost = (rejected.clone() - ref_rejected) * beta;
        let loss = log_sigmoid(won.clone() - lost.clone()).sum().neg();
        let right = won.clone().greater(lost.clone()).float();
        let sums = [won, lost, right, chosen, rejected].map(|values| values.inner().sum());
        MeasuredLoss {
            loss,
            sums: Some(Tensor::cat(sums.to_vec(), 0)),
        }
    }
}
