//! What can be wrong with a value of the `[training]` table.

use std::path::PathBuf;

/// What is wrong with a value of the `[training]` table; continues a sentence that begins with the
/// key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentProblem {
    /// The value is out of range.
    #[error("is {value}; {must}")]
    OutOfRange {
        /// The value.
        value: String,
        /// The valid range.
        must: &'static str,
    },
    /// No output folder is given.
    #[error("is not set; name the folder that gets the results")]
    NoFolder,
    /// The output folder cannot be used.
    #[error("is {}, which cannot be {what}: {error}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What was tried: `made` or `written into`.
        what: &'static str,
        /// The system's message.
        error: String,
    },
    /// There is nothing to evaluate on.
    #[error(
        "asks for evaluations, but there is nothing to evaluate on; set data.validation or \
         data.validation_split, or eval_strategy = \"no\""
    )]
    NoValidation,
    /// Both kinds of half precision are set.
    #[error("is true, and so is bf16: keep one of the two, bf16 where the device has it")]
    TwoPrecisions,
    /// A warm-up, with a schedule that has none.
    #[error(
        "is \"constant\", which has no warm-up, and {key} is {value}; set lr_scheduler_type = \
         \"constant_with_warmup\", or {key} = 0"
    )]
    NoWarmUp {
        /// The key of the warm-up.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// A key of `lr_scheduler_kwargs`, with a schedule that has none.
    #[error("has {key}, but lr_scheduler_type \"{kind}\" takes no keys")]
    NoScheduleKeys {
        /// The key.
        key: &'static str,
        /// The schedule.
        kind: String,
    },
    /// A key of `lr_scheduler_kwargs` that the schedule does not have.
    #[error("has {key}, but the keys of lr_scheduler_type \"{kind}\" are {}", keys.join(", "))]
    OtherScheduleKeys {
        /// The key.
        key: &'static str,
        /// The schedule.
        kind: String,
        /// The keys that it has.
        keys: &'static [&'static str],
    },
    /// A value of `lr_scheduler_kwargs` that is not positive.
    #[error("has {key} = {value}; it must be more than 0")]
    ScheduleValue {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// A final learning rate that is not below the highest.
    #[error("has lr_end = {lr_end}; it must be less than the learning_rate {learning_rate}")]
    LrEnd {
        /// The final rate.
        lr_end: f64,
        /// The highest rate.
        learning_rate: f64,
    },
    /// A schedule that lacks its minimum.
    #[error("has neither min_lr nor min_lr_rate; cosine_with_min_lr needs one")]
    NoMinimum,
    /// A schedule with two minima.
    #[error("has both min_lr and min_lr_rate; keep one")]
    TwoMinima,
    /// A key that the optimizer does not use.
    #[error("is {value}, but optim = \"{optim}\" does not use it; remove it")]
    Unused {
        /// Its value.
        value: f64,
        /// The optimizer.
        optim: &'static str,
    },
    /// A key of LoRA+ without its ratio.
    #[error("is {0}, but is used with loraplus_lr_ratio only; set that too")]
    WithRatioOnly(f64),
    /// LoRA+ with a method other than LoRA.
    #[error("is {0}, but no lora_B is trained; remove it")]
    NoLoraB(f64),
    /// Muon without a matrix to train.
    #[error("is \"muon\", which is for matrices, and none is trained; use \"adamw_torch\"")]
    NoMatrix,
    /// LoRA-FA with a method other than LoRA.
    #[error(
        "is \"lorafa\", which is for LoRA, and the whole model is trained; use \"adamw_torch\""
    )]
    NoLora,
    /// A key of early stopping without its patience.
    #[error("is {0}, but is used with early_stopping_patience only")]
    WithPatienceOnly(f64),
    /// Early stopping without evaluations.
    #[error("needs evaluations; set eval_strategy to \"steps\" or \"epoch\"")]
    NoEvaluations,
    /// Evaluations and checkpoints at different steps.
    #[error(
        "needs evaluations and checkpoints at the same steps, but eval_strategy is \"{eval}\" and \
         save_strategy \"{save}\"; set both to \"steps\" or both to \"epoch\""
    )]
    OtherStrategies {
        /// When evaluations are made.
        eval: &'static str,
        /// When checkpoints are written.
        save: &'static str,
    },
    /// A checkpoint without its evaluation.
    #[error(
        "needs an evaluation at every checkpoint, but save_steps is {save_steps}, which is not a multiple of \
         eval_steps {eval_steps}"
    )]
    NoMultiple {
        /// The number of steps between two checkpoints.
        save_steps: usize,
        /// The number of steps between two evaluations.
        eval_steps: usize,
    },
    /// A metric that the objective does not have.
    #[error("is \"{metric}\", which is not measured; measured: {}", measured.join(", "))]
    NotMeasured {
        /// The metric.
        metric: &'static str,
        /// The metrics that are measured.
        measured: Vec<&'static str>,
    },
}
