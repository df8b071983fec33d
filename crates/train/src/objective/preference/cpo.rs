//! Preferences without a reference: CPO (arXiv 2401.08417) and SimPO (arXiv 2405.14734), as in
//! TRL's `CPOTrainer`.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, relu};
use burn_peft_models::TokenLogProbs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{TableProblem, more_than_zero, not_negative, share, some_length};
use super::measures::{PreferenceLoss, fewer_is_better, metrics_of_pairs, sums, sums_of_pairs};
use super::pairs::{Pairs, mean_of_chosen, sums_of_texts};
use crate::objective::metric::Measures;

/// The kinds of losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpoLossType {
    /// DPO's, without a reference.
    #[default]
    Sigmoid,
    /// The hinge loss of SLiC (arXiv 2305.10425).
    Hinge,
    /// IPO (arXiv 2310.12036), with the mean over each answer's tokens.
    Ipo,
    /// SimPO: the mean over each answer's tokens, with a margin.
    Simpo,
    /// AlphaPO (arXiv 2501.03884): SimPO without cross-entropy; `alpha` shapes the rewards.
    Alphapo,
}

/// The `[cpo]` table: the keys of TRL's `CPOConfig` about the loss and the texts, with its
/// defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CpoConfig {
    /// The factor of differences of rewards.
    pub beta: f64,
    /// The probability that a label is wrong, for `sigmoid`, `simpo` and `alphapo`.
    pub label_smoothing: f64,
    /// The loss.
    pub loss_type: CpoLossType,
    /// The weight of the cross-entropy of the chosen answers; 0 with `alphapo`.
    pub cpo_alpha: f64,
    /// The margin of `simpo` and `alphapo`.
    pub simpo_gamma: f64,
    /// How rewards grow with probabilities: `(1 - p^(-alpha)) / alpha`, or their logarithm if it is
    /// 0.
    pub alpha: f64,
    /// The length in tokens that a text is cut to, at the end of the answer. Unless set,
    /// `data.max_length`, or else TRL's 1,024.
    pub max_length: Option<usize>,
    /// Train without dropout.
    pub disable_dropout: bool,
}

impl Default for CpoConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            label_smoothing: 0.0,
            loss_type: CpoLossType::Sigmoid,
            cpo_alpha: 1.0,
            simpo_gamma: 0.5,
            alpha: 0.0,
            max_length: None,
            disable_dropout: true,
        }
    }
}

impl CpoConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The first key with an invalid value, and what is wrong with it.
    pub fn validate(&self) -> Result<(), TableProblem> {
        more_than_zero("beta", self.beta)?;
        share("label_smoothing", self.label_smoothing)?;
        not_negative("cpo_alpha", self.cpo_alpha)?;
        for (key, value) in [("simpo_gamma", self.simpo_gamma), ("alpha", self.alpha)] {
            if !value.is_finite() {
                return Err((key, format!("is {value}, which is not a number")));
            }
        }
        some_length("max_length", self.max_length)
    }

    fn takes_means(&self) -> bool {
        !matches!(self.loss_type, CpoLossType::Sigmoid | CpoLossType::Hinge)
    }

    /// The weight of the cross-entropy.
    fn nll_weight(&self) -> f64 {
        match self.loss_type {
            CpoLossType::Alphapo => 0.0,
            _ => self.cpo_alpha,
        }
    }
}

/// What an evaluation measures.
pub static MEASURES: Measures = Measures {
    unit: "pair",
    sums: sums_of_pairs!("Cross-entropy"),
    metrics: metrics_of_pairs!(fewer_is_better(
        "nll_loss",
        "cross-entropy of chosen answers",
        |sums| sums.mean(sums.sums[6])
    )),
};

/// The loss of pairs. `policy`, `[tokens]`, has the log-probabilities of the answers' tokens, in
/// texts of these `lengths`, the chosen text of each pair before the rejected one.
///
/// # Panics
/// If the lengths are not those of pairs, or do not add up to the number of tokens.
pub fn cpo_loss(config: &CpoConfig, policy: &TokenLogProbs, lengths: &[usize]) -> PreferenceLoss {
    let pairs = (lengths.len() / 2) as f64;
    let of_answer = |text: usize, _| {
        if config.takes_means() {
            1.0 / lengths[text] as f32
        } else {
            1.0
        }
    };
    let logps = Pairs::of(sums_of_texts(&policy.log_probs, lengths, of_answer));
    let rewards = match config.alpha {
        0.0 => logps.clone(),
        alpha => logps
            .clone()
            .map(|logps| ((logps * -alpha).exp().neg() + 1.0) / alpha),
    };
    let (beta, wrong) = (config.beta, config.label_smoothing);
    let margin = rewards.clone().margin();
    let smoothed = |logits: Tensor<1>| {
        let right = log_sigmoid(logits.clone()) * (1.0 - wrong);
        (right + log_sigmoid(logits.neg()) * wrong).neg()
    };
    let losses = match config.loss_type {
        CpoLossType::Sigmoid => smoothed(margin * beta),
        CpoLossType::Simpo | CpoLossType::Alphapo => smoothed(margin * beta - config.simpo_gamma),
        CpoLossType::Hinge => relu((margin * beta).neg() + 1.0),
        CpoLossType::Ipo => (margin - 0.5 / beta).square(),
    };
    let nll = match config.nll_weight() {
        // As in TRL, which does not compute it in this case.
        0.0 => Tensor::zeros([1], &policy.log_probs.device()),
        _ => mean_of_chosen(&policy.log_probs, lengths).neg() * pairs,
    };
    let rewards = rewards.map(|reward| reward * beta);
    PreferenceLoss {
        loss: losses.sum() + nll.clone() * config.nll_weight(),
        sums: sums(&rewards, &logps, vec![nll]),
    }
}
