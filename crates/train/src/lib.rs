//! Training of adapters on Burn's `Learner`.
//!
//! A [`TrainConfig`] is a training file; its `[training]` table is [`TrainingArguments`], with the
//! keys of transformers. [`train`] runs it: `SupervisedTraining` drives a strategy of ours that
//! counts optimizer steps, accumulates gradients by tokens, cuts them by their global norm, and
//! evaluates, logs and saves every so many steps. Metrics, interrupter and renderer are Burn's.

mod above_bar;
mod arguments;
mod best;
mod checkpoint;
mod checkpoint_info;
mod config;
mod dashboard;
mod error;
mod estimate;
mod eva;
mod evaluate;
mod files;
mod grads;
mod identity;
mod keys;
mod loader;
mod log;
mod memory;
mod metrics;
mod numbers;
mod old_run;
mod optimizer;
mod optimizer_state;
mod overrides;
mod parameter_groups;
mod peft_table;
mod quantization;
mod renderer;
mod report;
mod resume;
mod run_folder;
mod sample;
mod schedule;
mod settings;
mod state;
mod step;
mod strategy;
mod target;
mod tensorboard;
mod train;
mod values;
mod whole;
mod words;

#[cfg(test)]
mod tests;

pub use above_bar::above_bar;
pub use arguments::{IntervalStrategy, SamplingStrategy, Steps, TrainingArguments};
pub use best::{Best, BestCheckpoint, BestMetric};
pub use burn::train::Interrupter;
pub use burn::train::renderer::MetricsRenderer;
pub use checkpoint_info::CheckpointInfo;
pub use config::TrainConfig;
pub use dashboard::{check_dashboard, dashboard};
pub use error::{Result, TrainError};
pub use estimate::{Estimate, estimate};
pub use eva::initialize_lora_eva_weights;
pub use evaluate::{Evaluation, evaluate};
pub use keys::keys_meant_by;
pub use log::{EvalLog, METRICS_NAME, SampleLog, TrainLog};
pub use memory::peak_memory_bytes;
pub use numbers::{clock, number, paragraph, perplexity, speed, time_left};
pub use old_run::OldRun;
pub use optimizer::{OptimizerName, adamw, optimizer};
pub use quantization::{BitsAndBytesConfig, Bnb4BitQuantType, ComputeDtype};
pub use renderer::ProgressRenderer;
pub use report::{Assessment, REPORT_NAME, Report};
pub use run_folder::RunFolder;
pub use sample::{SamplePrompt, Samples};
pub use schedule::{Schedule, SchedulerKwargs, SchedulerType};
pub use settings::{Origin, Setting, settings_toml};
pub use target::TrainTarget;
pub use tensorboard::EVENTS_NAME;
pub use train::{TrainOptions, TrainOutcome, train};

// It is compiled and run here because this crate has Burn's `train`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct LibraryPage;
