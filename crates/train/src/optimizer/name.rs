//! The optimizers, by transformers' names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `optim`: the optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// AdamW as in PyTorch, with `adam_beta1`, `adam_beta2` and `adam_epsilon`.
    #[default]
    #[serde(alias = "adamw_torch_fused")]
    AdamwTorch,
    /// Plain gradient descent, as in `torch.optim.SGD` without momentum: weight decay is added to
    /// the gradient.
    Sgd,
    /// Lion with `adam_beta1` and `adam_beta2`, as `lion_32bit` in transformers. Lion's paper uses
    /// `adam_beta2 = 0.99`, and a learning rate three to ten times smaller than AdamW's.
    #[serde(alias = "lion_32bit")]
    Lion,
    /// Adafactor as transformers' `Trainer` sets it up: the learning rate of the schedule, no
    /// relative steps, no scaling by the parameter, and no first moment.
    Adafactor,
    /// Muon for matrices, AdamW for vectors and embeddings. As `torch.optim.Muon` with
    /// `adjust_lr_fn = "match_rms_adamw"` (so that both use one learning rate), except that Burn
    /// iterates in the gradient's own precision and PyTorch in bfloat16.
    Muon,
    /// LoRA-FA, PEFT's `create_lorafa_optimizer`: `lora_A` is frozen, the gradient of `lora_B` is
    /// corrected for it after clipping, and AdamW makes the step. PEFT's optimizer has
    /// `adam_epsilon = 1e-6`, and adds it before the second moment is corrected.
    Lorafa,
}

impl OptimizerName {
    /// The Adam keys that it does not use.
    pub(crate) fn unused(self) -> &'static [&'static str] {
        match self {
            Self::AdamwTorch | Self::Muon | Self::Lorafa => &[],
            Self::Lion => &["adam_epsilon"],
            Self::Sgd | Self::Adafactor => &["adam_beta1", "adam_beta2", "adam_epsilon"],
        }
    }

    /// Its name in a training file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AdamwTorch => "adamw_torch",
            Self::Sgd => "sgd",
            Self::Lion => "lion",
            Self::Adafactor => "adafactor",
            Self::Muon => "muon",
            Self::Lorafa => "lorafa",
        }
    }
}
