//! What objectives of preferences measure, under TRL's names.

use burn::tensor::Tensor;

use super::pairs::Pairs;
use crate::objective::metric::{Metric, Sums};
use crate::seeing::numbers::number;

/// The loss of a batch, and what its metrics are computed from.
#[derive(Clone, Debug)]
pub struct PreferenceLoss {
    /// The *sum* of the losses, `[1]`, over pairs, or over texts if they are not paired. If a loss
    /// is a mean over the batch, each of them counts as that mean.
    pub loss: Tensor<1>,
    /// The sums that the objective's [`Measures::sums`](crate::Measures::sums) name, over the
    /// batch, without a graph.
    pub sums: Tensor<1>,
}

/// The first sums of objectives over pairs.
macro_rules! sums_of_pairs {
    ($($further:literal),*) => {
        &[
            "Chosen reward",
            "Rejected reward",
            "Margin",
            "Accuracy",
            "Chosen log-probability",
            "Rejected log-probability",
            $($further),*
        ]
    };
}

/// The metrics of objectives over pairs: the loss first, further ones after those of rewards.
macro_rules! metrics_of_pairs {
    ($($further:expr),*) => {
        &[
            crate::objective::metric::Metric::loss("loss (nats per pair)"),
            crate::objective::preference::measures::mean("rewards/chosen", "reward of chosen answers", |sums| sums.mean(sums.sums[0])),
            crate::objective::preference::measures::fewer_is_better("rewards/rejected", "reward of rejected answers", |sums| sums.mean(sums.sums[1])),
            crate::objective::preference::measures::mean("rewards/margins", "margin of rewards", |sums| sums.mean(sums.sums[2])),
            crate::objective::preference::measures::mean("rewards/accuracies", "pairs whose chosen answer has more reward", |sums| sums.mean(sums.sums[3])),
            crate::objective::preference::measures::mean("logps/chosen", "log-probability of chosen answers", |sums| sums.mean(sums.sums[4])),
            crate::objective::preference::measures::fewer_is_better("logps/rejected", "log-probability of rejected answers", |sums| sums.mean(sums.sums[5])),
            $($further),*
        ]
    };
}
pub(super) use {metrics_of_pairs, sums_of_pairs};

/// The sums of [`sums_of_pairs`], with further ones, all without a graph.
pub(super) fn sums(rewards: &Pairs, logps: &Pairs, further: Vec<Tensor<1>>) -> Tensor<1> {
    let (rewards, logps) = (rewards.detached(), logps.detached());
    let right = rewards.chosen.clone().greater(rewards.rejected.clone());
    let mut sums = vec![
        rewards.chosen.clone().sum(),
        rewards.rejected.clone().sum(),
        rewards.margin().sum(),
        right.float().sum(),
        logps.chosen.sum(),
        logps.rejected.sum(),
    ];
    sums.extend(further.into_iter().map(Tensor::without_autodiff));
    Tensor::cat(sums, 0)
}

/// A metric for which higher is better.
pub(super) const fn mean(name: &'static str, title: &'static str, of: fn(&Sums) -> f64) -> Metric {
    Metric {
        name,
        title,
        heading: name,
        greater_is_better: true,
        of,
        text: |value| format!("{value:.4}"),
        short: |value| number(value, 3),
    }
}

/// A metric for which lower is better.
pub(super) const fn fewer_is_better(
    name: &'static str,
    title: &'static str,
    of: fn(&Sums) -> f64,
) -> Metric {
    Metric {
        greater_is_better: false,
        ..mean(name, title, of)
    }
}
