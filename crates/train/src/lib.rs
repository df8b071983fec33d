//! Training of adapters on Burn's `Learner`.
//!
//! A [`TrainConfig`] is a training file; its `[training]` table is [`TrainingArguments`], with the
//! keys of transformers. [`train`] runs it: `SupervisedTraining` drives a strategy of ours that
//! counts optimizer steps, accumulates gradients by tokens, cuts them by their global norm, and
//! evaluates, logs and saves every so many steps. Metrics, interrupter and renderer are Burn's.

mod arguments;
mod checkpoint;
mod config;
mod error;
mod evaluate;
mod files;
mod grads;
mod keys;
mod loader;
mod log;
mod memory;
mod metrics;
mod optimizer;
mod overrides;
mod renderer;
mod sample;
mod schedule;
mod state;
mod step;
mod strategy;
mod target;
mod tensorboard;
mod train;

#[cfg(test)]
mod tests;

pub use arguments::{IntervalStrategy, Steps, TrainingArguments};
pub use burn::train::Interrupter;
pub use config::TrainConfig;
pub use error::{Result, TrainError};
pub use evaluate::{Evaluation, evaluate};
pub use memory::peak_memory_bytes;
pub use log::{EvalLog, METRICS_NAME, SampleLog, TrainLog};
pub use optimizer::adamw;
pub use renderer::ProgressRenderer;
pub use sample::SamplePrompt;
pub use schedule::{Schedule, SchedulerType};
pub use target::TrainTarget;
pub use tensorboard::EVENTS_NAME;
pub use train::{TrainOptions, TrainOutcome, train};
