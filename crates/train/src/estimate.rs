//! What a run will take, from one step of it: `peft train --dry-run`.

use burn_peft_data::Examples;

use crate::arguments::{IntervalStrategy, TrainingArguments};
use crate::error::{Result, TrainError};
use crate::log::{METRICS_NAME, TrainLog};
use crate::memory::peak_memory_bytes;
use crate::target::TrainTarget;
use crate::train::{TrainOptions, train};

/// One step as it was, and what all of a run will take if the others are like it.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The loss of the step.
    pub loss: f64,
    /// Its tokens, padding left out.
    pub step_tokens: usize,
    /// The time it took, in seconds.
    pub step_seconds: f64,
    /// Its speed.
    pub tokens_per_second: f64,
    /// The optimizer steps of a run.
    pub steps: usize,
    /// The tokens of all of them.
    pub tokens: usize,
    /// The time of a run with its evaluations, in seconds.
    pub seconds: f64,
    /// The part of that time for the evaluations. They are taken to cost a third of training for a
    /// token: the forward pass, and not the backward pass, which costs two of it.
    pub eval_seconds: f64,
    /// The most memory held in the step, and the most it would have been with the longest rows
    /// only, in bytes; none where the system does not tell.
    pub memory: Option<(u64, u64)>,
}

/// Runs the first step of a training, and leaves nothing on the disk.
///
/// # Errors
/// As [`train`].
pub fn estimate<T: TrainTarget>(
    model: T,
    examples: Examples,
    validation: Option<&Examples>,
    arguments: &TrainingArguments,
) -> Result<Estimate> {
    let batch_size = arguments.per_device_train_batch_size;
    let (all_tokens, longest) = (examples.tokens(), examples.longest_sequence());
    let eval_tokens = validation.map_or(0, Examples::tokens);
    let dir = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let first = TrainingArguments {
        output_dir: dir.path().to_path_buf(),
        max_steps: 1,
        logging_steps: 1,
        eval_strategy: IntervalStrategy::No,
        save_strategy: IntervalStrategy::No,
        // Both need evaluations.
        load_best_model_at_end: false,
        early_stopping_patience: None,
        early_stopping_threshold: 0.0,
        ..arguments.clone()
    };
    let memory_before = peak_memory_bytes(&model.device());
    let options = TrainOptions {
        discard: true,
        ..TrainOptions::default()
    };
    let outcome = train(model, examples, None, &first, options)?;

    let path = dir.path().join(METRICS_NAME);
    let log = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    let log: TrainLog = serde_json::from_str(log.lines().next().unwrap_or_default())
        .map_err(std::io::Error::from)
        .map_err(TrainError::io(&path))?;
    let step_tokens = log.num_input_tokens_seen;
    let step_seconds = step_tokens as f64 / log.tokens_per_second;

    // An epoch has as many steps as the one that was done goes into it.
    let (steps, epochs) = match usize::try_from(arguments.max_steps) {
        Ok(steps) => (steps, steps as f64 * outcome.epoch),
        Err(_) => {
            let epochs = arguments.num_train_epochs;
            ((epochs / outcome.epoch).ceil() as usize, epochs)
        }
    };
    let tokens = epochs * all_tokens as f64;
    // One before, and one after unless the run itself ends with it.
    let evaluations = 1 + match arguments.eval_strategy {
        IntervalStrategy::No => 1,
        IntervalStrategy::Steps => steps.div_ceil(arguments.eval_steps()),
        IntervalStrategy::Epoch => epochs.ceil() as usize,
    };
    let eval_seconds = (evaluations * eval_tokens) as f64 / (3.0 * log.tokens_per_second);
    let memory = memory_before.zip(log.peak_memory_bytes);
    let memory = memory.map(|(before, peak)| {
        // All that the step added grows with its tokens at the most.
        let mean = step_tokens as f64 / arguments.gradient_accumulation_steps as f64;
        let growth = ((longest * batch_size) as f64 / mean).max(1.0);
        let added = peak.saturating_sub(before) as f64 * growth;
        (peak, peak.max(before + added as u64))
    });
    Ok(Estimate {
        loss: log.loss,
        step_tokens,
        step_seconds,
        tokens_per_second: log.tokens_per_second,
        steps,
        tokens: tokens as usize,
        seconds: tokens / log.tokens_per_second + eval_seconds,
        eval_seconds,
        memory,
    })
}
