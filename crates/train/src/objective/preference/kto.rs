//! Learning from single answers that are liked or disliked (KTO, arXiv 2402.01306), as in TRL's
//! `KTOTrainer`.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};
use burn_peft_models::TokenLogProbs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{TableProblem, more_than_zero, not_negative, some_length};
use super::measures::{PreferenceLoss, fewer_is_better, mean};
use super::pairs::sums_of_texts;
use crate::objective::metric::{Measures, Metric, Sums};

/// The kinds of losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KtoLossType {
    /// KTO, which estimates the divergence from the reference with answers to other prompts.
    #[default]
    Kto,
    /// APO-zero (arXiv 2408.06266) of single answers.
    ApoZeroUnpaired,
}

/// The `[kto]` table: the keys of TRL's `KTOConfig` about the loss and the texts, with its
/// defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KtoConfig {
    /// How closely the policy is kept to the reference.
    pub beta: f64,
    /// The loss.
    pub loss_type: KtoLossType,
    /// The weight of liked answers.
    pub desirable_weight: f64,
    /// The weight of disliked answers.
    pub undesirable_weight: f64,
    /// The length in tokens that a text is cut to, at the end of the answer. Unless set,
    /// `data.max_length`, or else TRL's 1,024.
    pub max_length: Option<usize>,
    /// Train without dropout.
    pub disable_dropout: bool,
    /// Compute the reference once for each text, before training.
    pub precompute_ref_log_probs: bool,
    /// The batch size for that; unless set, that of training.
    pub precompute_ref_batch_size: Option<usize>,
}

impl Default for KtoConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            loss_type: KtoLossType::Kto,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            max_length: None,
            disable_dropout: true,
            precompute_ref_log_probs: false,
            precompute_ref_batch_size: None,
        }
    }
}

impl KtoConfig {
    /// Whether [`kto_loss`] needs the log-probabilities of answers to other prompts.
    pub fn calculates_kl(&self) -> bool {
        self.loss_type == KtoLossType::Kto
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first key with an invalid value, and what is wrong with it.
    pub fn validate(&self) -> Result<(), TableProblem> {
        more_than_zero("beta", self.beta)?;
        not_negative("desirable_weight", self.desirable_weight)?;
        not_negative("undesirable_weight", self.undesirable_weight)?;
        if self.desirable_weight == 0.0 && self.undesirable_weight == 0.0 {
            let problem = "is 0, and so is desirable_weight: nothing would be learnt";
            return Err(("undesirable_weight", problem.into()));
        }
        some_length("max_length", self.max_length)?;
        some_length("precompute_ref_batch_size", self.precompute_ref_batch_size)
    }
}

/// The mean of a sum over the answers of one kind; 0 if there are none. Works for means of sums as
/// well.
fn of_kind(sums: &Sums, sum: usize, count: usize) -> f64 {
    match sums.sums[count] {
        0.0 => 0.0,
        count => sums.sums[sum] / count,
    }
}

/// What an evaluation measures.
pub static MEASURES: Measures = Measures {
    unit: "example",
    sums: &[
        "Liked",
        "Disliked",
        "Liked reward",
        "Disliked reward",
        "Liked log-probability",
        "Disliked log-probability",
        "KL",
    ],
    metrics: &[
        Metric::loss("loss (per example)"),
        mean(
            "rewards/chosen",
            "reward of answers that are liked",
            |sums| of_kind(sums, 2, 0),
        ),
        fewer_is_better("rewards/rejected", "reward of the others", |sums| {
            of_kind(sums, 3, 1)
        }),
        mean("rewards/margins", "margin of rewards", |sums| {
            of_kind(sums, 2, 0) - of_kind(sums, 3, 1)
        }),
        mean(
            "logps/chosen",
            "log-probability of answers that are liked",
            |sums| of_kind(sums, 4, 0),
        ),
        fewer_is_better("logps/rejected", "log-probability of the others", |sums| {
            of_kind(sums, 5, 1)
        }),
        fewer_is_better("kl", "divergence from the reference", |sums| {
            sums.mean(sums.sums[6])
        }),
    ],
};

/// Log-probabilities of answers to other prompts, without a graph: `policy` and `reference`,
/// `[tokens]`, of texts of these `lengths`.
#[derive(Clone, Debug)]
pub struct Mismatched<'a> {
    /// By the policy.
    pub policy: Tensor<1>,
    /// By the reference.
    pub reference: Tensor<1>,
    /// The number of tokens of each answer.
    pub lengths: &'a [usize],
}

/// The loss of answers. `policy` and `reference`, `[tokens]`, have the log-probabilities of their
/// tokens, in texts of these `lengths`; `liked` says which answers are liked. `mismatched` has to
/// be there if the configuration [`calculates_kl`](KtoConfig::calculates_kl).
///
/// # Panics
/// If the lengths do not add up to the number of tokens, or `mismatched` is missing.
pub fn kto_loss(
    config: &KtoConfig,
    policy: &TokenLogProbs,
    reference: Tensor<1>,
    lengths: &[usize],
    liked: &[bool],
    mismatched: Option<Mismatched<'_>>,
) -> PreferenceLoss {
    let all = |_, _| 1.0;
    let device = policy.log_probs.device().without_autodiff();
    let of_host = |of: &dyn Fn(bool) -> f64| {
        let values: Vec<f32> = liked.iter().map(|&liked| of(liked) as f32).collect();
        Tensor::<1>::from_data(TensorData::new(values, [liked.len()]), &device)
    };
    let logps = sums_of_texts(&policy.log_probs, lengths, all);
    let ref_logps = sums_of_texts(&reference.without_autodiff(), lengths, all);
    let logratios = logps.clone() - ref_logps;
    let kl = config.calculates_kl().then(|| {
        let found = mismatched.expect("answers to other prompts");
        let [policy, reference] = [found.policy, found.reference]
            .map(|of| sums_of_texts(&of.without_autodiff(), found.lengths, all));
        (policy - reference).mean().clamp_min(0.0)
    });
    let kl = kl.unwrap_or_else(|| Tensor::zeros([1], &device));

    // The reward of a liked answer should exceed the divergence, that of a disliked one should not.
    let sign = of_host(&|liked| if liked { 1.0 } else { -1.0 });
    let weight = of_host(&|liked| {
        if liked {
            config.desirable_weight
        } else {
            config.undesirable_weight
        }
    });
    let relative = (logratios.clone() - kl.clone()) * sign * config.beta;
    let losses = (sigmoid(relative).neg() + 1.0) * weight;

    let (rewards, logps) = (
        logratios.without_autodiff() * config.beta,
        logps.without_autodiff(),
    );
    let kinds = [true, false].map(|kind| of_host(&|liked| f64::from(u8::from(liked == kind))));
    let of_kinds = |values: Option<&Tensor<1>>| {
        kinds.clone().map(|kind| match values {
            Some(values) => (kind * values.clone()).sum(),
            None => kind.sum(),
        })
    };
    let sums = [
        of_kinds(None),
        of_kinds(Some(&rewards)),
        of_kinds(Some(&logps)),
    ];
    let mut sums: Vec<_> = sums.into_iter().flatten().collect();
    sums.push(kl * liked.len() as f64);
    PreferenceLoss {
        loss: losses.sum(),
        sums: Tensor::cat(sums, 0),
    }
}
