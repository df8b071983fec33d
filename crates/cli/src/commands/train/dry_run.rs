//! `peft train --dry-run`: runs two steps and shows what a run would take.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use burn_peft::parameters::thousands;
use burn_peft_data::DataSet;
use burn_peft_models::LanguageModel;
use burn_peft_train::{Objective, TrainingArguments, clock, estimate_with, speed};

use crate::output::{say, size};

/// Runs two training steps and prints the memory and time that the run would take. Nothing is left
/// on the disk but the tokenised data, which the run then finds in the cache.
pub fn dry_run(
    objective: Arc<dyn Objective<LanguageModel>>,
    model: LanguageModel,
    data: DataSet,
    arguments: &TrainingArguments,
) -> Result<()> {
    let estimate = estimate_with(
        objective,
        model,
        data.train,
        data.validation.as_ref(),
        arguments,
    )?;
    say("\ndry run: two steps were done, the output folder was not touched")?;
    say(format!(
        "  the second: loss {:.4}  {} tokens in {}  {}",
        estimate.loss,
        thousands(estimate.step_tokens),
        clock(Duration::from_secs_f64(estimate.step_seconds)),
        speed(estimate.tokens_per_second),
    ))?;
    say(format!(
        "  a run: {} steps, about {} tokens",
        thousands(estimate.steps),
        thousands(estimate.tokens)
    ))?;
    say(format!(
        "  estimated time: {} ({} of it for evaluations)",
        clock(Duration::from_secs_f64(estimate.seconds)),
        clock(Duration::from_secs_f64(estimate.eval_seconds))
    ))?;
    say(match estimate.memory {
        Some(bytes) => format!("  estimated memory: {}", size(bytes)),
        None => "  estimated memory: unknown on this system".to_string(),
    })
}
