//! The cost of a run, estimated from two of its steps: `peft train --dry-run`.

use std::sync::Arc;

use burn_peft_data::{Examples, Lm};
use burn_peft_files::read_text;

use crate::configuration::arguments::{IntervalStrategy, SamplingStrategy, TrainingArguments};
use crate::error::{Result, TrainError};
use crate::objective::Objective;
use crate::run::evaluate::evaluate_with;
use crate::run::loader::{Loader, Order};
use crate::run::state::Position;
use crate::run::target::TrainTarget;
use crate::run::train::{TrainOptions, train_with};
use crate::seeing::memory::peak_memory_bytes;
use crate::seeing::metrics_file::{METRICS_NAME, TrainLog};

/// The cost of one step, and of the whole run if its other steps are like it.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The loss of the step.
    pub loss: f64,
    /// The step's tokens, without padding.
    pub step_tokens: usize,
    /// The time of the step, in seconds.
    pub step_seconds: f64,
    /// The speed of the step.
    pub tokens_per_second: f64,
    /// The number of optimizer steps in the run.
    pub steps: usize,
    /// The tokens of all its steps.
    pub tokens: usize,
    /// The time of the run with its evaluations, in seconds.
    pub seconds: f64,
    /// The part of that time that the evaluations take, in seconds. A token is taken to cost a
    /// third of what it costs in training: only the forward pass, without the backward pass, which
    /// costs twice as much.
    pub eval_seconds: f64,
    /// The peak memory in bytes; `None` where the system does not report it.
    pub memory: Option<u64>,
}

/// Runs two training steps on the batch with the most tokens, and leaves nothing on the disk. The
/// second step finds everything in memory that later steps do (the optimizer's moments), and its
/// time leaves out what is made only once (a GPU's kernels). The largest batch of an evaluation is
/// run too and, if the run saves any, a checkpoint is written.
///
/// # Errors
/// As [`train`](crate::train).
pub fn estimate<T: TrainTarget>(
    model: T,
    examples: Examples,
    validation: Option<&Examples>,
    arguments: &TrainingArguments,
) -> Result<Estimate> {
    estimate_with(Arc::new(Lm), model, examples, validation, arguments)
}

/// As [`estimate`], for an objective.
///
/// # Errors
/// As [`train_with`].
pub fn estimate_with<T: TrainTarget>(
    objective: Arc<dyn Objective<T>>,
    model: T,
    examples: Examples,
    validation: Option<&Examples>,
    arguments: &TrainingArguments,
) -> Result<Estimate> {
    arguments.validate()?;
    let device = model.device();
    let all_tokens = examples.tokens_per_epoch();
    let eval_tokens = validation.map_or(0, Examples::tokens);
    let largest = |examples: &Examples, batch_size, order, epochs| -> Result<Examples> {
        let loader = Loader::new(
            Arc::clone(&objective),
            Arc::new(examples.clone()),
            batch_size,
            order,
        )?;
        Ok(examples.select(&loader.largest_batch(epochs)))
    };
    if let Some(validation) = validation {
        let batch_size = arguments.per_device_eval_batch_size;
        let batch = largest(validation, batch_size, Order::File, 1)?;
        evaluate_with(&*objective, &model, &batch, batch_size, |_, _| ())?;
    }
    let batch_size = arguments.per_device_train_batch_size;
    let in_epoch = examples.sequences_per_epoch().div_ceil(batch_size);
    let steps = arguments.steps(in_epoch);
    if let Some(warning) = arguments.schedule(steps.total).warning() {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = arguments.few_steps(steps.total) {
        tracing::warn!("{warning}");
    }
    let order = Order::of(arguments, Position::default());
    let batch = largest(&examples, batch_size, order, steps.epochs)?;
    // No step goes beyond the end of its epoch.
    let accumulated = arguments.gradient_accumulation_steps.min(in_epoch.max(1));
    let rows = (0..2 * accumulated).flat_map(|_| 0..batch.sequences());
    let rows: Vec<usize> = rows.collect();

    let dir = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let first = TrainingArguments {
        output_dir: dir.path().to_path_buf(),
        max_steps: 2,
        per_device_train_batch_size: batch.sequences().max(1),
        gradient_accumulation_steps: accumulated,
        train_sampling_strategy: SamplingStrategy::Sequential,
        group_by_length: false,
        logging_steps: 1,
        eval_strategy: IntervalStrategy::No,
        save_strategy: match arguments.save_strategy {
            IntervalStrategy::No => IntervalStrategy::No,
            _ => IntervalStrategy::Steps,
        },
        // Both need evaluations.
        load_best_model_at_end: false,
        early_stopping_patience: None,
        early_stopping_threshold: 0.0,
        ..arguments.clone()
    };
    let options = TrainOptions {
        discard: true,
        ..TrainOptions::default()
    };
    let rows = batch.select(&rows);
    train_with(objective, model, rows, None, &first, options)?;
    let memory = peak_memory_bytes(&device);

    let path = dir.path().join(METRICS_NAME);
    let text = read_text(&path)?;
    let log: TrainLog = serde_json::from_str(text.lines().nth(1).unwrap_or_default())
        .map_err(std::io::Error::from)
        .map_err(TrainError::io(&path))?;
    let step_tokens = batch.tokens() * accumulated;
    let step_seconds = step_tokens as f64 / log.tokens_per_second;

    let epochs = steps.total as f64 / steps.per_epoch as f64;
    let tokens = epochs * all_tokens as f64;
    // One evaluation before training, and one after it unless the run itself ends with one.
    let evaluations = 1 + match arguments.eval_strategy {
        IntervalStrategy::No => 1,
        IntervalStrategy::Steps => steps.total.div_ceil(arguments.eval_steps()),
        IntervalStrategy::Epoch => epochs.ceil() as usize,
    };
    let eval_seconds = (evaluations * eval_tokens) as f64 / (3.0 * log.tokens_per_second);
    Ok(Estimate {
        loss: log.loss,
        step_tokens,
        step_seconds,
        tokens_per_second: log.tokens_per_second,
        steps: steps.total,
        tokens: tokens as usize,
        seconds: tokens / log.tokens_per_second + eval_seconds,
        eval_seconds,
        memory,
    })
}
