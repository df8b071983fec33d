//! The `[training]` table: transformers' `TrainingArguments`, with its keys and defaults.

use std::path::PathBuf;

use burn::tensor::FloatDType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::objective::best_metric::BestMetric;
use crate::objective::registry::ObjectiveName;
use crate::optimizer::name::OptimizerName;
use crate::optimizer::schedule::{Schedule, SchedulerKwargs, SchedulerType};

/// When something is done during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IntervalStrategy {
    /// Never.
    #[default]
    No,
    /// Every given number of optimizer steps.
    Steps,
    /// At the end of every epoch.
    Epoch,
}

impl IntervalStrategy {
    /// The value as written in a file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Steps => "steps",
            Self::Epoch => "epoch",
        }
    }
}

/// `train_sampling_strategy`: the order of the examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplingStrategy {
    /// Shuffled by the seed, differently in every epoch.
    #[default]
    Random,
    /// In the order of the file, the same in every epoch.
    Sequential,
    /// Shuffled, with examples of about the same length in a batch.
    GroupByLength,
}

/// How a model is trained. Keys and defaults are those of transformers' `TrainingArguments`, except
/// `logging_steps` (500 there) and `eval_on_start` (false there).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingArguments {
    /// What the model is trained for; its keys are in a table of the same name.
    pub objective: ObjectiveName,
    /// The folder for the adapter, `metrics.jsonl`, `config.toml` and the checkpoints.
    pub output_dir: PathBuf,
    /// Passes over the data, possibly fractional. Ignored if `max_steps` is set.
    pub num_train_epochs: f64,
    /// The total number of optimizer steps; -1 means that `num_train_epochs` decides.
    pub max_steps: i64,
    /// Examples in one forward pass.
    pub per_device_train_batch_size: usize,
    /// Examples in one forward pass of an evaluation.
    pub per_device_eval_batch_size: usize,
    /// Forward passes for one optimizer step, whose loss is the mean over all their tokens.
    pub gradient_accumulation_steps: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The optimizer.
    pub optim: OptimizerName,
    /// Weight decay, on every trained tensor except biases and norms.
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    pub adam_beta1: f64,
    /// AdamW's decay of the second moment.
    pub adam_beta2: f64,
    /// AdamW's term that avoids division by zero.
    pub adam_epsilon: f64,
    /// LoRA+: by what factor `lora_B` learns faster than `lora_A` (PEFT's
    /// `create_loraplus_optimizer`, in which `weight_decay` is called `loraplus_weight_decay`).
    pub loraplus_lr_ratio: Option<f64>,
    /// LoRA+: the learning rate for adapters of embeddings; 1e-6 unless set.
    pub loraplus_lr_embedding: Option<f64>,
    /// The maximum norm of all gradients together; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// How the learning rate develops after the warm-up.
    pub lr_scheduler_type: SchedulerType,
    /// Parameters of the schedule: `num_cycles`, `power`, `lr_end`, …
    pub lr_scheduler_kwargs: Option<SchedulerKwargs>,
    /// The number of warm-up steps; takes precedence over `warmup_ratio`.
    pub warmup_steps: usize,
    /// The warm-up as a share of all steps.
    pub warmup_ratio: f64,
    /// The number of steps between two lines of `metrics.jsonl`.
    pub logging_steps: usize,
    /// When to evaluate.
    pub eval_strategy: IntervalStrategy,
    /// The number of steps between two evaluations; `logging_steps` unless set.
    pub eval_steps: Option<usize>,
    /// Whether the model is also evaluated before training, if there is something to evaluate on.
    pub eval_on_start: bool,
    /// When to write a checkpoint.
    pub save_strategy: IntervalStrategy,
    /// The number of steps between two checkpoints.
    pub save_steps: usize,
    /// How many checkpoints of this run are kept; the oldest are removed first. Unless set, all are
    /// kept. With `load_best_model_at_end` the best one is kept too.
    pub save_total_limit: Option<usize>,
    /// Whether to end with the weights of the best checkpoint instead of the last step.
    pub load_best_model_at_end: bool,
    /// The metric that decides which checkpoint is the best: one of the evaluation's, such as
    /// `loss` or `perplexity`.
    pub metric_for_best_model: BestMetric,
    /// Whether a higher value of that metric is better; need not be set for metrics of which the
    /// direction is known. (transformers assumes that higher is better for everything that is not
    /// called `loss`, including perplexity.)
    pub greater_is_better: bool,
    /// Stop after this many evaluations in a row without an improvement.
    pub early_stopping_patience: Option<usize>,
    /// By how much an evaluation must be better to count as an improvement for
    /// `early_stopping_patience`.
    pub early_stopping_threshold: f64,
    /// The order of the examples.
    pub train_sampling_strategy: SamplingStrategy,
    /// The older name of `train_sampling_strategy = "group_by_length"`.
    pub group_by_length: bool,
    /// Store the frozen weights in bfloat16 and use it for their products; adapters, optimizer,
    /// norms, softmax and loss stay in 32 bits.
    pub bf16: bool,
    /// Store the frozen weights in float16, for devices without bfloat16. GPUs use it for their
    /// products, scaled row by row so that the loss need not be; on the CPU products are in 32
    /// bits.
    pub fp16: bool,
    /// Recompute activations in the backward pass, one block at a time, instead of storing them:
    /// much less memory, at the cost of another forward pass.
    pub gradient_checkpointing: bool,
    /// The seed for the order of the data, dropout and new adapters.
    pub seed: u64,
}

impl Default for TrainingArguments {
    fn default() -> Self {
        Self {
            objective: ObjectiveName::default(),
            output_dir: PathBuf::new(),
            num_train_epochs: 3.0,
            max_steps: -1,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            learning_rate: 5e-5,
            optim: OptimizerName::AdamwTorch,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            loraplus_lr_ratio: None,
            loraplus_lr_embedding: None,
            max_grad_norm: 1.0,
            lr_scheduler_type: SchedulerType::Linear,
            lr_scheduler_kwargs: None,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            logging_steps: 10,
            eval_strategy: IntervalStrategy::No,
            eval_steps: None,
            eval_on_start: true,
            save_strategy: IntervalStrategy::Steps,
            save_steps: 500,
            save_total_limit: None,
            load_best_model_at_end: false,
            metric_for_best_model: BestMetric::default(),
            greater_is_better: false,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            train_sampling_strategy: SamplingStrategy::Random,
            group_by_length: false,
            bf16: false,
            fp16: false,
            gradient_checkpointing: false,
            seed: 42,
        }
    }
}

impl TrainingArguments {
    /// The defaults, for an output folder.
    pub fn new(output_dir: impl Into<PathBuf>) -> Self {
        Self {
            output_dir: output_dir.into(),
            ..Self::default()
        }
    }

    /// The type that frozen weights are stored in, if not 32 bits.
    pub fn frozen_dtype(&self) -> Option<FloatDType> {
        match (self.bf16, self.fp16) {
            (true, _) => Some(FloatDType::BF16),
            (_, true) => Some(FloatDType::F16),
            _ => None,
        }
    }

    /// Whether a higher value of the metric for the best model is better.
    pub fn greater_is_better(&self) -> bool {
        self.greater_is_better || self.metric_for_best_model.metric().greater_is_better
    }

    /// The order of the examples.
    pub fn sampling_strategy(&self) -> SamplingStrategy {
        if self.group_by_length {
            SamplingStrategy::GroupByLength
        } else {
            self.train_sampling_strategy
        }
    }

    /// The number of steps between two evaluations.
    pub fn eval_steps(&self) -> usize {
        self.eval_steps.unwrap_or(self.logging_steps)
    }

    /// The number of steps of a run with this many batches an epoch, counted as in transformers:
    /// the last step of an epoch accumulates the remaining batches.
    pub fn steps(&self, batches_per_epoch: usize) -> Steps {
        let per_epoch = batches_per_epoch
            .div_ceil(self.gradient_accumulation_steps)
            .max(1);
        let total = match usize::try_from(self.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => (self.num_train_epochs * per_epoch as f64).ceil() as usize,
        };
        Steps {
            per_epoch,
            total,
            epochs: total.div_ceil(per_epoch),
        }
    }

    /// The warning for a run whose data (not `max_steps`) leave it so few steps that it learns next
    /// to nothing.
    pub(crate) fn few_steps(&self, total_steps: usize) -> Option<String> {
        const FEW: usize = 20;
        let is_meant = self.max_steps > 0 || total_steps >= FEW;
        (!is_meant).then(|| {
            format!(
                "the run has {total_steps} optimizer steps, from which little is learnt: raise \
                 training.num_train_epochs, or lower per_device_train_batch_size or \
                 gradient_accumulation_steps"
            )
        })
    }

    /// The learning rate over a run of this many steps.
    pub fn schedule(&self, total_steps: usize) -> Schedule {
        let warmup_steps = match self.warmup_steps {
            0 => (total_steps as f64 * self.warmup_ratio).ceil() as usize,
            steps => steps,
        };
        Schedule {
            kind: self.lr_scheduler_type,
            kwargs: self.lr_scheduler_kwargs.unwrap_or_default(),
            learning_rate: self.learning_rate,
            warmup_steps,
            total_steps,
        }
    }
}

/// The optimizer steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// In one epoch.
    pub per_epoch: usize,
    /// In the whole run.
    pub total: usize,
    /// The number of epochs that the run begins; the last one may be incomplete.
    pub epochs: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_few_steps_is_told_unless_it_is_meant() {
        let mut arguments = TrainingArguments::new("out");
        assert!(arguments.few_steps(20).is_none());
        let told = arguments.few_steps(3).unwrap();
        assert!(told.starts_with("the run has 3 optimizer steps"), "{told}");
        arguments.max_steps = 3;
        assert!(arguments.few_steps(3).is_none());
    }

    #[test]
    fn steps_and_warmup_are_counted_as_transformers_counts_them() {
        let mut arguments = TrainingArguments::new("out");
        // 500 rows in batches of 4, the published walk-through: 125 batches, 375 steps.
        assert_eq!(
            arguments.steps(125),
            Steps {
                per_epoch: 125,
                total: 375,
                epochs: 3
            }
        );
        arguments.gradient_accumulation_steps = 4;
        assert_eq!(
            arguments.steps(10),
            Steps {
                per_epoch: 3,
                total: 9,
                epochs: 3
            }
        );
        arguments.num_train_epochs = 0.5;
        assert_eq!(
            arguments.steps(10),
            Steps {
                per_epoch: 3,
                total: 2,
                epochs: 1
            }
        );
        arguments.max_steps = 7;
        assert_eq!(
            arguments.steps(10),
            Steps {
                per_epoch: 3,
                total: 7,
                epochs: 3
            }
        );

        arguments.warmup_ratio = 0.03;
        assert_eq!(arguments.schedule(100).warmup_steps, 3);
        assert_eq!(arguments.schedule(101).warmup_steps, 4);
        arguments.warmup_steps = 9;
        assert_eq!(arguments.schedule(100).warmup_steps, 9);
    }
}
