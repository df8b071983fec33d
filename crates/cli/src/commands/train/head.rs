//! The head of a run's model, if its objective needs a classifier.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use burn_peft::config::TaskType;
use burn_peft::{DEFAULT_ADAPTER, PeftModel};
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, AutoModel, CausalLm, WantedHead};
use burn_peft_train::TrainConfig;

use crate::loading::{check_causal, head_of};

/// The head that the objective of a run needs; `None` for a language model.
pub(super) fn wanted(
    config: &TrainConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<Option<WantedHead>> {
    let kind = config.objective();
    let adapter = config.adapter.as_ref().map(PathBuf::from);
    let of_adapter = head_of(adapter.as_slice())?;
    let task = of_adapter
        .as_ref()
        .map_or(TaskType::CausalLm, |head| head.task);
    if let Some(adapter) = &config.adapter {
        ensure!(
            task == kind.task_type,
            "{adapter}: task_type = {task}, and training.objective = \"{}\" trains {}",
            kind.name,
            kind.task_type
        );
    }
    if kind.task_type == TaskType::CausalLm {
        return Ok(None);
    }
    if kind.task_type == TaskType::FeatureExtraction {
        return Ok(Some(WantedHead::none()));
    }
    let mut head = of_adapter.unwrap_or_else(|| WantedHead {
        task: kind.task_type,
        num_labels: kind.num_labels,
        seed: config.training.seed,
        ..WantedHead::default()
    });
    if let Some(labels) = config.head_labels() {
        head.labels = Some(labels);
    }
    let wanted = kind
        .num_labels
        .or(head.labels.as_ref().map(|labels| labels.names.len()));
    if let (Some(wanted), Some(found)) = (wanted, head.num_labels)
        && wanted != found
    {
        bail!(
            "the head of the adapter scores {found} labels, and training.objective = \"{}\" wants \
             {wanted}",
            kind.name
        );
    }
    if head.pad_token_id.is_none() {
        head.pad_token_id = tokenizer.and_then(Tokenizer::pad_id).map(i64::from);
    }
    Ok(Some(head))
}

/// Rejects a model with another head than the objective needs.
pub(super) fn check(model: &AutoModel, config: &TrainConfig) -> Result<()> {
    let (kind, head) = (config.objective(), model.head());
    if kind.task_type == TaskType::CausalLm {
        check_causal(model).with_context(|| config.model.clone())?;
    }
    if head.task == kind.task_type {
        return Ok(());
    }
    bail!(
        "{} is a classifier of {} labels (task_type = {}), and training.objective = \"{}\" trains {}",
        config.model,
        head.num_labels(),
        head.task,
        kind.name,
        kind.task_type
    )
}

/// Stores in the adapter what the model's own files lack about its head.
pub(super) fn describe(model: &mut PeftModel<AutoModel>, files: &ModelFiles) -> Result<()> {
    let head = model.head();
    if !head.classifies() {
        return Ok(());
    }
    let own = AutoConfig::from_file(files.get("config.json")?)?;
    model.update_config(DEFAULT_ADAPTER, |common| {
        common.unknown.extend(head.keys_beside(&own.keys()));
    })?;
    Ok(())
}
