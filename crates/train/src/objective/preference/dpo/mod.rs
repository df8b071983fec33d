//! Direct preference optimisation (arXiv 2305.18290) and its relatives, as in TRL's `DPOTrainer`.

mod config;
mod kinds;
mod one_or_several;

use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use burn_peft_models::TokenLogProbs;

use super::measures::{PreferenceLoss, metrics_of_pairs, sums, sums_of_pairs};
use super::pairs::{Pairs, mean_of_chosen, sums_of_texts};
use crate::objective::metric::Measures;
use kinds::Scores;

pub use config::{DpoConfig, DpoLossType, FDivergence};

/// What an evaluation measures.
pub static MEASURES: Measures = Measures {
    unit: "pair",
    sums: sums_of_pairs!(),
    metrics: metrics_of_pairs!(),
};

/// The loss of pairs. `policy` and `reference`, `[tokens]`, have the log-probabilities of the
/// answers' tokens, in texts of these `lengths`, the chosen text of each pair before the rejected
/// one. `counts` are the numbers of the answers' tokens, including those that are not predicted
/// (such as a text's first); losses that take a mean divide by them. The policy's statistics have
/// to be there if [`needs_statistics`](DpoConfig::needs_statistics).
///
/// # Panics
/// If the lengths or counts are not those of pairs, or do not add up to the number of tokens, or if
/// statistics are missing.
pub fn dpo_loss(
    config: &DpoConfig,
    policy: &TokenLogProbs,
    reference: Tensor<1>,
    lengths: &[usize],
    counts: &[usize],
) -> PreferenceLoss {
    let tail = config.ld_alpha.unwrap_or(1.0) as f32;
    let of_texts = |values: &Tensor<1>| {
        let weight = |text: usize, token: usize| {
            let shared = lengths[text].min(lengths[text ^ 1]);
            if token < shared { 1.0 } else { tail }
        };
        Pairs::of(sums_of_texts(values, lengths, weight))
    };
    let logps = of_texts(&policy.log_probs);
    let ref_logps = of_texts(&reference.without_autodiff());
    let logratios = logps.clone().zip(ref_logps.clone(), |a, b| a - b);
    let counts = counts.iter().map(|&count| count.max(1) as f32);
    let counts = Pairs::of_host(counts.collect(), &policy.log_probs);
    let pair_weights = config.use_weighting.then(|| weights(policy, lengths));
    let scores = Scores {
        config,
        scores: scores(config, logratios.clone()),
        logratios: logratios.clone(),
        logps: logps.clone(),
        ref_logps,
        counts,
        nll: || mean_of_chosen(&policy.log_probs, lengths).neg(),
    };
    let kinds = config.loss_type.iter().zip(config.weights());
    let losses = kinds.map(|(&kind, weight)| {
        let losses = scores.losses(kind);
        let losses = match &pair_weights {
            Some(weights) => losses * weights.clone(),
            None => losses,
        };
        losses.sum() * weight
    });
    let none = || Tensor::zeros([1], &policy.log_probs.device());
    let rewards = logratios.map(|ratio| ratio * config.beta);
    PreferenceLoss {
        loss: losses.reduce(|a, b| a + b).unwrap_or_else(none),
        sums: sums(&rewards, &logps, Vec::new()),
    }
}

/// The divergence's function of log ratios of probabilities.
fn scores(config: &DpoConfig, logratios: Pairs) -> Pairs {
    let alpha = config.f_alpha_divergence_coef - 1.0;
    match config.f_divergence_type {
        FDivergence::ReverseKl => logratios,
        FDivergence::ForwardKl => logratios.map(|ratio| ratio.neg().exp().neg() + 1.0),
        FDivergence::JsDivergence => {
            logratios.map(|ratio| log_sigmoid(ratio) + std::f64::consts::LN_2)
        }
        // For α = 1, it is the reverse divergence.
        FDivergence::AlphaDivergence if alpha.abs() < 1e-6 => logratios,
        FDivergence::AlphaDivergence => {
            logratios.map(|ratio| ((ratio * alpha).clamp_max(80.0).exp() - 1.0) / alpha)
        }
    }
}

/// The weight of each pair: the probability of both answers under the policy, by the mean over
/// their tokens and relative to how certain the policy is of its tokens, `[pairs]`.
fn weights(policy: &TokenLogProbs, lengths: &[usize]) -> Tensor<1> {
    let statistics = policy
        .statistics
        .as_ref()
        .expect("statistics of the policy");
    let aligned = policy.log_probs.clone().without_autodiff()
        - statistics.log_sum_sq_probs.clone().without_autodiff();
    let mean = |text: usize, _| 1.0 / lengths[text] as f32;
    let means = Pairs::of(sums_of_texts(&aligned, lengths, mean));
    (means.chosen + means.rejected).exp()
}
