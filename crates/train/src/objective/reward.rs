//! Reward models: the better of two answers to a prompt gets the higher score (Bradley-Terry).

use std::cell::Cell;
use std::sync::Arc;

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Int, Tensor, TensorData};
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, ScoredPairs, Task, forward_task};
use burn_peft_models::{CausalLm, Checkpointed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::keys::fields_of;
use crate::error::ConfigProblem;
use crate::objective::heads::{checkpointed, scores};
use crate::objective::metric::{Measures, Metric};
use crate::objective::registry::{Kind, check_length};
use crate::objective::{MeasuredLoss, Objective};

/// `[reward]`: the keys of TRL's `RewardConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// How strongly the rewards of a pair are centred on zero; not at all unless set (TRL
    /// recommends 0.01).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub center_rewards_coefficient: Option<f64>,
    /// The length in tokens above which a pair is left out; the same as `data.max_length`. 1,024
    /// unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Train without dropout, in the adapter and in the model.
    pub disable_dropout: bool,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            center_rewards_coefficient: None,
            max_length: None,
            disable_dropout: true,
        }
    }
}

/// The entry of the registry.
pub(crate) static KIND: Kind = Kind {
    name: "reward",
    task_type: TaskType::SeqCls,
    num_labels: Some(1),
    measures: &MEASURES,
    keys: fields_of::<RewardConfig>,
    has_table: |config| config.reward.is_some(),
    max_length: |config| config.reward.as_ref()?.max_length,
    fill: |config| {
        let table = config.reward.get_or_insert_default();
        table.max_length = table.max_length.or(config.data.max_length);
    },
    check: |config| {
        let said = config.reward.as_ref().and_then(|table| table.max_length);
        check_length("reward", said, config.data.max_length)?;
        let coefficient = config.reward.as_ref();
        match coefficient.and_then(|config| config.center_rewards_coefficient) {
            Some(value) if !(value >= 0.0 && value.is_finite()) => Err(ConfigProblem::Objective(
                format!("reward.center_rewards_coefficient is {value}; it must not be negative"),
            )),
            _ => Ok(()),
        }
    },
    task: |_| Arc::new(ScoredPairs::default()),
    reference: |_| false,
    build: |config, _| {
        let config = config.reward.clone().unwrap_or_default();
        Ok(Arc::new(Reward::new(config)))
    },
};

/// What is measured, under TRL's names; the minimum and maximum reward are means over batches.
pub static MEASURES: Measures = Measures {
    unit: "pair",
    sums: &[
        "Accuracy",
        "Margin",
        "Mean Reward",
        "Min Reward",
        "Max Reward",
    ],
    metrics: &[
        Metric::loss("loss (per pair)"),
        Metric::mean("accuracy", "accuracy", true, |sums| sums.mean(sums.sums[0])),
        Metric::mean("margin", "margin of the rewards", true, |sums| {
            sums.mean(sums.sums[1])
        }),
        Metric::mean("mean_reward", "mean reward", true, |sums| {
            sums.mean(sums.sums[2])
        }),
        Metric::mean("min_reward", "least reward of a batch", true, |sums| {
            sums.mean(sums.sums[3])
        }),
        Metric::mean("max_reward", "greatest reward of a batch", true, |sums| {
            sums.mean(sums.sums[4])
        }),
    ],
};

/// The objective, for a model whose head has one label.
#[derive(Clone, Debug, Default)]
pub struct Reward {
    config: RewardConfig,
    task: ScoredPairs,
}

impl Reward {
    /// With these keys.
    pub fn new(config: RewardConfig) -> Self {
        Self {
            config,
            task: ScoredPairs::default(),
        }
    }
}

impl Task for Reward {
    forward_task!(self => self.task);
}

impl<M: CausalLm> Objective<M> for Reward {
    fn measures(&self) -> &'static Measures {
        &MEASURES
    }

    fn disables_dropout(&self) -> bool {
        self.config.disable_dropout
    }

    fn count(&self, batch: &Batch) -> usize {
        batch.spans.len() / 2
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.measured_loss(model, batch).loss
    }

    fn measured_loss(&self, model: &M, batch: &Batch) -> MeasuredLoss {
        let (loss, sums) = self.loss_of(scores(model, batch), batch);
        let sums = Some(sums);
        MeasuredLoss { loss, sums }
    }

    fn measured_backward(
        &self,
        model: &M,
        batch: &Batch,
        weight: f64,
    ) -> Option<(Checkpointed, Option<Tensor<1>>)> {
        let measured = Cell::new(None);
        let loss = |scores| {
            let (loss, sums) = self.loss_of(scores, batch);
            measured.set(Some(sums));
            loss * weight
        };
        let result = checkpointed(model, batch, &loss)?;
        Some((result, measured.take()))
    }
}

impl Reward {
    /// The sum of the losses, `[1]`, and what is measured, from the scores of all answers,
    /// `[answers, 1]`.
    fn loss_of(&self, scores: Tensor<2>, batch: &Batch) -> (Tensor<1>, Tensor<1>) {
        let [rows, _] = scores.dims();
        let rewards = scores.slice([0..rows, 0..1]).reshape([rows]);
        let [chosen, rejected] = apart(rewards.clone());
        let margin = chosen.clone() - rejected.clone();
        let mut loss = log_sigmoid(margin.clone() - margins(batch, &margin))
            .sum()
            .neg();
        if let Some(coefficient) = self.config.center_rewards_coefficient {
            let both = chosen + rejected;
            loss = loss + both.powi_scalar(2).sum() * coefficient;
        }
        let (rewards, margin) = (rewards.without_autodiff(), margin.without_autodiff());
        let pairs = (batch.spans.len() / 2) as f64;
        let sums = [
            margin.clone().greater_elem(0.0).float().sum(),
            margin.sum(),
            rewards.clone().sum() / 2.0,
            rewards.clone().min() * pairs,
            rewards.max() * pairs,
        ];
        (loss, Tensor::cat(sums.to_vec(), 0))
    }
}

/// The chosen and the rejected answers of pairs, `[pairs]` each.
fn apart(texts: Tensor<1>) -> [Tensor<1>; 2] {
    let pairs = (texts.dims()[0] / 2) as i64;
    [0, 1].map(|side| {
        let places: Vec<i64> = (0..pairs).map(|pair| 2 * pair + side).collect();
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &texts.device());
        texts.clone().select(0, places)
    })
}

/// By how much the better answer of each pair should be ahead, `[pairs]`.
fn margins(batch: &Batch, like: &Tensor<1>) -> Tensor<1> {
    let labels = batch.example_labels().step_by(2);
    let margins: Vec<f32> = labels.map(ScoredPairs::margin).collect();
    let pairs = margins.len();
    Tensor::from_data(TensorData::new(margins, [pairs]), &like.device())
}
