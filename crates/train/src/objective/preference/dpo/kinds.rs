//! The kinds of losses, for each pair.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, relu, sigmoid};

use super::{DpoConfig, DpoLossType};
use crate::objective::preference::pairs::Pairs;

/// What the losses are computed from, `[pairs]` each.
pub(super) struct Scores<'a, N> {
    pub config: &'a DpoConfig,
    /// The divergence's function of `logratios`.
    pub scores: Pairs,
    /// `logps - ref_logps`.
    pub logratios: Pairs,
    pub logps: Pairs,
    pub ref_logps: Pairs,
    /// The numbers of tokens of the answers.
    pub counts: Pairs,
    /// The cross-entropy of the chosen answers' tokens, `[1]`.
    pub nll: N,
}

impl<N: Fn() -> Tensor<1>> Scores<'_, N> {
    /// The losses of one kind, `[pairs]`.
    pub fn losses(&self, kind: DpoLossType) -> Tensor<1> {
        let (beta, smoothing) = (self.config.beta, self.config.label_smoothing);
        let delta = || self.scores.clone().margin() * beta;
        let rewards = || self.logratios.clone().map(|ratio| ratio * beta);
        let mean_delta = || self.scores.clone().zip(self.counts.clone(), |a, b| a / b);
        match kind {
            DpoLossType::Sigmoid => log_sigmoid(delta()).neg(),
            DpoLossType::Hinge => relu(delta().neg() + 1.0),
            DpoLossType::Ipo => (mean_delta().margin() - 0.5 / beta).square(),
            DpoLossType::ExoPair => exo(delta(), smoothing),
            DpoLossType::NcaPair => {
                let Pairs { chosen, rejected } = rewards();
                let both = log_sigmoid(chosen.clone().neg()) + log_sigmoid(rejected.neg());
                (log_sigmoid(chosen) + both * 0.5).neg()
            }
            DpoLossType::Robust => {
                let clean = log_sigmoid(delta()) * (1.0 - smoothing);
                let flipped = log_sigmoid(delta().neg()) * smoothing;
                (flipped - clean) / (1.0 - 2.0 * smoothing)
            }
            DpoLossType::BcoPair => {
                let Pairs { chosen, rejected } = rewards();
                (log_sigmoid(chosen) + log_sigmoid(rejected.neg())).neg()
            }
            DpoLossType::SppoHard => {
                let Pairs { chosen, rejected } = self.logratios.clone();
                (chosen - 0.5 / beta).square() + (rejected + 0.5 / beta).square()
            }
            DpoLossType::Aot => {
                let margins = sorted(self.logps.clone().margin());
                let delta = margins - sorted(self.ref_logps.clone().margin());
                smoothed(delta * beta, smoothing)
            }
            DpoLossType::AotUnpaired => {
                let delta = self.logratios.clone().map(sorted).margin();
                smoothed(delta * beta, smoothing)
            }
            DpoLossType::ApoZero => {
                let Pairs { chosen, rejected } = rewards();
                sigmoid(rejected) - sigmoid(chosen) + 1.0
            }
            DpoLossType::ApoDown => {
                let margin = rewards().margin();
                sigmoid(rewards().chosen) - sigmoid(margin) + 1.0
            }
            DpoLossType::Discopop => {
                let share = sigmoid(delta() / self.config.discopop_tau);
                let logistic = log_sigmoid(delta()).neg();
                logistic * (share.clone().neg() + 1.0) + delta().neg().exp() * share
            }
            DpoLossType::Sft => {
                let pairs = self.counts.chosen.dims()[0];
                (self.nll)().expand([pairs])
            }
            DpoLossType::SigmoidNorm => log_sigmoid(mean_delta().margin() * beta).neg(),
        }
    }
}

/// The divergence of the policy's preferences from labels, a share of which is wrong.
fn exo(delta: Tensor<1>, wrong: f64) -> Tensor<1> {
    let part =
        |delta: Tensor<1>, share: f64| sigmoid(delta.clone()) * (log_sigmoid(delta) - share.ln());
    part(delta.clone(), 1.0 - wrong) + part(delta.neg(), wrong)
}

/// The logistic loss for labels, a share of which is wrong.
fn smoothed(delta: Tensor<1>, wrong: f64) -> Tensor<1> {
    let right = log_sigmoid(delta.clone()) * (1.0 - wrong);
    (right + log_sigmoid(delta.neg()) * wrong).neg()
}

/// The values in ascending order.
fn sorted(values: Tensor<1>) -> Tensor<1> {
    let order = values.clone().without_autodiff().argsort(0);
    values.select(0, order)
}
