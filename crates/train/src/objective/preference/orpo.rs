//! Preferences without a reference, by odds ratios (ORPO, arXiv 2403.07691), as in TRL's
//! `ORPOTrainer`.

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use burn_peft_models::TokenLogProbs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{TableProblem, more_than_zero, some_length};
use super::measures::{
    PreferenceLoss, fewer_is_better, mean, metrics_of_pairs, sums, sums_of_pairs,
};
use super::pairs::{Pairs, mean_of_chosen, sums_of_texts};
use crate::objective::metric::Measures;

/// The `[orpo]` table: the keys of TRL's `ORPOConfig` about the loss and the texts, with its
/// defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OrpoConfig {
    /// The weight of the odds ratio relative to the cross-entropy (λ).
    pub beta: f64,
    /// The length in tokens that a text is cut to, at the end of the answer. Unless set,
    /// `data.max_length`, or else TRL's 1,024.
    pub max_length: Option<usize>,
    /// Train without dropout.
    pub disable_dropout: bool,
}

impl Default for OrpoConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            max_length: None,
            disable_dropout: true,
        }
    }
}

impl OrpoConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The first key with an invalid value, and what is wrong with it.
    pub fn validate(&self) -> Result<(), TableProblem> {
        more_than_zero("beta", self.beta)?;
        some_length("max_length", self.max_length)
    }
}

/// What an evaluation measures.
pub static MEASURES: Measures = Measures {
    unit: "pair",
    sums: sums_of_pairs!("Cross-entropy", "Log odds ratio", "Log odds"),
    metrics: metrics_of_pairs!(
        fewer_is_better("nll_loss", "cross-entropy of chosen texts", |sums| {
            sums.mean(sums.sums[6])
        }),
        mean(
            "log_odds_ratio",
            "log of the odds ratio's sigmoid",
            |sums| { sums.mean(sums.sums[7]) }
        ),
        mean("log_odds_chosen", "log of the odds ratio", |sums| {
            sums.mean(sums.sums[8])
        })
    ),
};

/// The loss of pairs. `policy`, `[tokens]`, has the log-probabilities of the texts' tokens, in
/// texts of these `lengths`, the chosen text of each pair before the rejected one. The first tokens
/// of each text, as many as `prompts` says, are its prompt's: those of chosen texts count for the
/// cross-entropy, and no others.
///
/// # Panics
/// If the lengths are not those of pairs, or do not add up to the number of tokens.
pub fn orpo_loss(
    config: &OrpoConfig,
    policy: &TokenLogProbs,
    lengths: &[usize],
    prompts: &[usize],
) -> PreferenceLoss {
    let pairs = (lengths.len() / 2) as f64;
    let of_answer = |text: usize, token: usize| {
        if token < prompts[text] {
            0.0
        } else {
            1.0 / (lengths[text] - prompts[text]) as f32
        }
    };
    let logps = Pairs::of(sums_of_texts(&policy.log_probs, lengths, of_answer));
    let log_odds = logps.clone().map(|logps| logps.clone() - log_1m_exp(logps));
    let log_odds = log_odds.margin();
    let ratio = log_sigmoid(log_odds.clone());
    let nll = mean_of_chosen(&policy.log_probs, lengths).neg() * pairs;
    let rewards = logps.clone().map(|logps| logps * config.beta);
    let further = vec![nll.clone(), ratio.clone().sum(), log_odds.sum()];
    PreferenceLoss {
        loss: nll - ratio.sum() * config.beta,
        sums: sums(&rewards, &logps, further),
    }
}

/// `log(1 - exp(x))` for x < 0, without subtracting numbers close to each other: with the
/// hyperbolic tangent of half the argument, `1 - exp(x) = 2t / (1 + t)` for `t = tanh(-x / 2)`.
fn log_1m_exp(x: Tensor<1>) -> Tensor<1> {
    let t = (x * -0.5).tanh();
    (t.clone() * 2.0 / (t + 1.0)).log()
}
