//! The `[dpo]` table: the keys of TRL's `DPOConfig` about the loss and the texts, with its
//! defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::configuration::schema;
use crate::objective::preference::checks::{
    TableProblem, below_half, keeps_start, more_than_zero, share, some_length,
};

/// The kinds of losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLossType {
    /// DPO (arXiv 2305.18290).
    #[default]
    Sigmoid,
    /// The hinge loss of SLiC (arXiv 2305.10425).
    Hinge,
    /// IPO (arXiv 2310.12036), with the mean over each answer's tokens.
    Ipo,
    /// EXO (arXiv 2402.00856).
    ExoPair,
    /// NCA (arXiv 2402.05369).
    NcaPair,
    /// Robust DPO (arXiv 2403.00409).
    Robust,
    /// BCO (arXiv 2404.04656), without its running mean of rewards, which TRL 1.16 does not have.
    BcoPair,
    /// SPPO (arXiv 2405.00675) with hard probabilities.
    SppoHard,
    /// AOT (arXiv 2406.05882): sorted margins against the reference's sorted margins.
    Aot,
    /// AOT, for unpaired answers.
    AotUnpaired,
    /// APO-zero (arXiv 2408.06266).
    ApoZero,
    /// APO-down (arXiv 2408.06266).
    ApoDown,
    /// DiscoPOP (arXiv 2406.08414).
    Discopop,
    /// The cross-entropy of the chosen answers.
    Sft,
    /// DPO with the mean over each answer's tokens.
    SigmoidNorm,
}

impl DpoLossType {
    /// The value as written in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::ExoPair => "exo_pair",
            Self::NcaPair => "nca_pair",
            Self::Robust => "robust",
            Self::BcoPair => "bco_pair",
            Self::SppoHard => "sppo_hard",
            Self::Aot => "aot",
            Self::AotUnpaired => "aot_unpaired",
            Self::ApoZero => "apo_zero",
            Self::ApoDown => "apo_down",
            Self::Discopop => "discopop",
            Self::Sft => "sft",
            Self::SigmoidNorm => "sigmoid_norm",
        }
    }

    /// Whether it is computed from the difference of scores, or needs no scores: then any
    /// f-divergence can be used, since what it leaves undetermined is the same for both answers.
    fn takes_any_divergence(self) -> bool {
        use DpoLossType::*;
        matches!(
            self,
            Sigmoid | SigmoidNorm | Hinge | Ipo | ExoPair | Robust | Discopop | Sft
        )
    }
}

/// The divergence that keeps the policy close to the reference (arXiv 2309.16240).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FDivergence {
    /// DPO's own.
    #[default]
    ReverseKl,
    /// `1 - 1/t` of the ratio `t` of probabilities.
    ForwardKl,
    /// `log(2t / (t + 1))`.
    JsDivergence,
    /// `(t^(α-1) - 1) / (α - 1)`.
    AlphaDivergence,
}

/// The `[dpo]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// How closely the policy is kept to the reference.
    pub beta: f64,
    /// The losses, one or several.
    #[serde(with = "super::one_or_several")]
    #[schemars(schema_with = "schema::one_or_several::<DpoLossType>")]
    pub loss_type: Vec<DpoLossType>,
    /// The weight of each of several losses; 1 unless set.
    pub loss_weights: Option<Vec<f64>>,
    /// The probability that a label is wrong, for `robust`, `exo_pair`, `aot` and `aot_unpaired`.
    pub label_smoothing: f64,
    /// The weight of an answer's tokens beyond the length of the shorter answer of its pair
    /// (LD-DPO, arXiv 2409.06411); 1 unless set.
    pub ld_alpha: Option<f64>,
    /// The divergence that keeps the policy close to the reference.
    pub f_divergence_type: FDivergence,
    /// `alpha_divergence`'s α.
    pub f_alpha_divergence_coef: f64,
    /// Whether to weight pairs by their probability under the policy (WPO, arXiv 2406.11827).
    pub use_weighting: bool,
    /// `discopop`'s temperature.
    pub discopop_tau: f64,
    /// The length in tokens that a text is cut to, at the end of the answer. Unless set,
    /// `data.max_length`, or else TRL's 1,024.
    pub max_length: Option<usize>,
    /// `keep_start`: a text that is too long is cut at its end.
    pub truncation_mode: String,
    /// Train without dropout.
    pub disable_dropout: bool,
    /// Compute the reference once for each text, before training.
    pub precompute_ref_log_probs: bool,
    /// The batch size for that; unless set, that of training.
    pub precompute_ref_batch_size: Option<usize>,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            loss_type: vec![DpoLossType::Sigmoid],
            loss_weights: None,
            label_smoothing: 0.0,
            ld_alpha: None,
            f_divergence_type: FDivergence::ReverseKl,
            f_alpha_divergence_coef: 0.5,
            use_weighting: false,
            discopop_tau: 0.05,
            max_length: None,
            truncation_mode: "keep_start".into(),
            disable_dropout: true,
            precompute_ref_log_probs: false,
            precompute_ref_batch_size: None,
        }
    }
}

impl DpoConfig {
    /// Whether [`dpo_loss`](super::dpo_loss) needs the policy's
    /// [`statistics`](burn_peft_models::TokenLogProbs::statistics).
    pub fn needs_statistics(&self) -> bool {
        self.use_weighting
    }

    /// The weight of each loss.
    pub(super) fn weights(&self) -> Vec<f64> {
        match &self.loss_weights {
            Some(weights) => weights.clone(),
            None => vec![1.0; self.loss_type.len()],
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first key with an invalid value, and what is wrong with it.
    pub fn validate(&self) -> Result<(), TableProblem> {
        use DpoLossType::{Aot, AotUnpaired, ExoPair, Robust};
        more_than_zero("beta", self.beta)?;
        more_than_zero("discopop_tau", self.discopop_tau)?;
        some_length("max_length", self.max_length)?;
        some_length("precompute_ref_batch_size", self.precompute_ref_batch_size)?;
        keeps_start(&self.truncation_mode)?;
        if let Some(alpha) = self.ld_alpha {
            share("ld_alpha", alpha)?;
        }
        let kinds = &self.loss_type;
        if kinds.is_empty() {
            return Err(("loss_type", "is an empty list; name a loss".into()));
        }
        if let Some(weights) = &self.loss_weights
            && weights.len() != kinds.len()
        {
            let (given, losses) = (weights.len(), kinds.len());
            let problem =
                format!("has {given} numbers for {losses} losses in loss_type; give one for each");
            return Err(("loss_weights", problem));
        }
        let weights = self.loss_weights.iter().flatten();
        if let Some(weight) = weights.copied().find(|weight| !weight.is_finite()) {
            return Err((
                "loss_weights",
                format!("has {weight}, which is not a number"),
            ));
        }
        match (kinds.contains(&Robust), kinds.contains(&ExoPair)) {
            (true, _) => below_half("label_smoothing", self.label_smoothing)?,
            _ => share("label_smoothing", self.label_smoothing)?,
        }
        if kinds.contains(&ExoPair) && !(0.0 < self.label_smoothing && self.label_smoothing < 1.0) {
            let problem = format!(
                "is {}; loss_type \"exo_pair\" needs more than 0 and less than 1, such as 0.001",
                self.label_smoothing
            );
            return Err(("label_smoothing", problem));
        }
        if !self.f_alpha_divergence_coef.is_finite() {
            return Err(("f_alpha_divergence_coef", "is not a number".into()));
        }
        let others = kinds.iter().find(|kind| !kind.takes_any_divergence());
        if let Some(kind) = others
            && self.f_divergence_type != FDivergence::ReverseKl
        {
            let problem = format!(
                "is not \"reverse_kl\", which is the only one that loss_type \"{}\" takes",
                kind.as_str()
            );
            return Err(("f_divergence_type", problem));
        }
        let sorted = kinds.iter().find(|kind| matches!(kind, Aot | AotUnpaired));
        if let Some(kind) = sorted
            && self.use_weighting
        {
            let problem = format!(
                "is true, but loss_type \"{}\" puts pairs in another order; weights would be \
                 those of others",
                kind.as_str()
            );
            return Err(("use_weighting", problem));
        }
        Ok(())
    }
}
