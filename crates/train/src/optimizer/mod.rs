//! Burn's optimizers by transformers' names, with groups of parameters.

pub(crate) mod flat;
pub(crate) mod grads;
pub(crate) mod name;
pub(crate) mod outer;
pub(crate) mod parameter_groups;
pub(crate) mod schedule;
pub(crate) mod state_file;
pub(crate) mod trained;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{
    AdafactorConfig, AdamW, AdamWConfig, AdjustLrFn, LionConfig, ModuleOptimizer, MuonConfig,
    Optimizer, SgdConfig,
};
use burn_peft::parameters::NamedParameter;

use crate::configuration::arguments::TrainingArguments;
use crate::error::{ArgumentProblem, Result, TrainError};
use crate::optimizer::name::OptimizerName;
use crate::optimizer::parameter_groups::{LoraPlusGroup, decays, ids, loraplus_group};
use crate::optimizer::schedule::{Schedule, ScheduleCursor};

/// Checks that every key of the optimizer has an effect.
///
/// # Errors
/// [`TrainError::Argument`] names the first key that has none.
pub(crate) fn validate(arguments: &TrainingArguments) -> Result<()> {
    let defaults = TrainingArguments::default();
    let optim = arguments.optim;
    for (key, value, default) in [
        ("adam_beta1", arguments.adam_beta1, defaults.adam_beta1),
        ("adam_beta2", arguments.adam_beta2, defaults.adam_beta2),
        (
            "adam_epsilon",
            arguments.adam_epsilon,
            defaults.adam_epsilon,
        ),
    ] {
        if value != default && optim.unused().contains(&key) {
            let optim = optim.as_str();
            let problem = ArgumentProblem::Unused { value, optim };
            return Err(TrainError::argument(key, problem));
        }
    }
    let (ratio, embedding) = (arguments.loraplus_lr_ratio, arguments.loraplus_lr_embedding);
    let bad = |value: Option<f64>| value.is_some_and(|value| !(value > 0.0 && value.is_finite()));
    let too_small = |value: f64| ArgumentProblem::OutOfRange {
        value: value.to_string(),
        must: "it must be more than 0",
    };
    let (key, problem) = match (ratio, embedding) {
        (Some(ratio), _) if bad(Some(ratio)) => ("loraplus_lr_ratio", too_small(ratio)),
        (_, Some(rate)) if bad(Some(rate)) => ("loraplus_lr_embedding", too_small(rate)),
        (None, Some(rate)) => (
            "loraplus_lr_embedding",
            ArgumentProblem::WithRatioOnly(rate),
        ),
        _ => return Ok(()),
    };
    Err(TrainError::argument(key, problem))
}

/// The optimizer of the `[training]` table. Biases and norms have no weight decay, as in
/// transformers' `Trainer`.
///
/// # Errors
/// If `muon` has no matrix to train.
pub fn optimizer(
    arguments: &TrainingArguments,
    parameters: &[NamedParameter],
) -> Result<ModuleOptimizer> {
    Ok(match arguments.optim {
        OptimizerName::AdamwTorch | OptimizerName::Lorafa => {
            grouped(arguments, parameters, |decay| adamw_with(arguments, decay))
        }
        OptimizerName::Sgd => grouped(arguments, parameters, |decay| {
            let decay = (decay > 0.0).then(|| WeightDecayConfig::new(decay));
            SgdConfig::new().with_weight_decay(decay).build()
        }),
        OptimizerName::Lion => grouped(arguments, parameters, |decay| {
            LionConfig::new()
                .with_beta_1(arguments.adam_beta1 as f32)
                .with_beta_2(arguments.adam_beta2 as f32)
                .with_weight_decay(decay)
                .build()
        }),
        OptimizerName::Adafactor => grouped(arguments, parameters, |decay| {
            AdafactorConfig::new()
                .with_relative_step(false)
                .with_scale_parameter(false)
                .with_weight_decay(decay)
                .build()
        }),
        OptimizerName::Muon => {
            let matrices = ids(parameters, |p| p.shape.len() == 2 && !p.is_embedding);
            if matrices.is_empty() {
                return Err(TrainError::argument("optim", ArgumentProblem::NoMatrix));
            }
            let decay = (arguments.weight_decay > 0.0)
                .then(|| WeightDecayConfig::new(arguments.weight_decay as f32));
            let muon = MuonConfig::new()
                .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
                .with_weight_decay(decay)
                .build();
            grouped(arguments, parameters, |decay| adamw_with(arguments, decay)).with_group(
                ParamGroup::from_ids(matrices),
                muon,
                None,
            )
        }
    })
}

/// The same optimizer with weight decay and without it, each for its own parameters.
fn grouped<O: Optimizer>(
    arguments: &TrainingArguments,
    parameters: &[NamedParameter],
    build: impl Fn(f32) -> O,
) -> ModuleOptimizer {
    let all = ModuleOptimizer::from(build(arguments.weight_decay as f32));
    let without = ids(parameters, |parameter| !decays(&parameter.name));
    if arguments.weight_decay == 0.0 || without.is_empty() {
        all
    } else {
        all.with_group(ParamGroup::from_ids(without), build(0.0), None)
    }
}

/// AdamW with the values of the `[training]` table, the same for all parameters.
///
/// Burn's AdamW is PyTorch's: weight decay is separate from the gradient, `p ← p·(1 − lr·wd)`, and
/// epsilon is added to the root of the corrected second moment. Its defaults differ, so all values
/// are given.
pub fn adamw(arguments: &TrainingArguments) -> ModuleOptimizer {
    adamw_with(arguments, arguments.weight_decay as f32).into()
}

fn adamw_with(arguments: &TrainingArguments, weight_decay: f32) -> AdamW {
    AdamWConfig::new()
        .with_beta_1(arguments.adam_beta1 as f32)
        .with_beta_2(arguments.adam_beta2 as f32)
        .with_epsilon(arguments.adam_epsilon as f32)
        .with_weight_decay(weight_decay)
        .build()
}

/// The learning rates from step `step` on, with those of LoRA+ if `loraplus_lr_ratio` is set.
///
/// # Errors
/// If `loraplus_lr_ratio` is set and no LoRA factor is trained.
pub(crate) fn scheduler(
    arguments: &TrainingArguments,
    parameters: &[NamedParameter],
    schedule: Schedule,
    step: usize,
) -> Result<ModuleLrScheduler> {
    let cursor = |ratio| ScheduleCursor {
        schedule,
        step,
        ratio,
    };
    let mut scheduler = ModuleLrScheduler::new(cursor(1.0));
    let Some(ratio) = arguments.loraplus_lr_ratio else {
        return Ok(scheduler);
    };
    if !parameters
        .iter()
        .any(|p| p.requires_grad && p.name.contains("lora_"))
    {
        let problem = ArgumentProblem::NoLoraB(ratio);
        return Err(TrainError::argument("loraplus_lr_ratio", problem));
    }
    let embedding = match arguments.learning_rate {
        // Nothing learns then.
        0.0 => 0.0,
        rate => arguments.loraplus_lr_embedding.unwrap_or(1e-6) / rate,
    };
    for (group, ratio) in [
        (LoraPlusGroup::B, ratio),
        // This group has its own learning rate, but the schedule's shape.
        (LoraPlusGroup::Embedding, embedding),
    ] {
        let members = ids(parameters, |parameter| loraplus_group(parameter) == group);
        if !members.is_empty() {
            scheduler = scheduler.with_group(ParamGroup::from_ids(members), cursor(ratio));
        }
    }
    Ok(scheduler)
}

#[cfg(test)]
mod tests;
