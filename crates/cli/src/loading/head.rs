//! The head that a model is opened with: its own, or the one that adapters were trained with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn_peft::config::TaskType;
use burn_peft::files::{read_config, read_weights};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, CausalLm, Labels, WantedHead};

/// The keys under which PEFT saves the heads of classifiers.
const HEADS: [&str; 2] = ["score", "classifier"];

/// The head that all of these adapters were trained with; `None` for a language model's.
pub fn head_of(adapters: &[PathBuf]) -> Result<Option<WantedHead>> {
    let mut found: Option<(&Path, Option<WantedHead>)> = None;
    for adapter in adapters {
        let head = head_of_one(adapter)?;
        match &found {
            None => found = Some((adapter, head)),
            Some((other, before)) if *before != head => bail!(
                "{} and {} were trained with different heads (task_type, labels): name one of them \
                 at a time",
                other.display(),
                adapter.display()
            ),
            Some(_) => {}
        }
    }
    Ok(found.and_then(|(_, head)| head))
}

fn head_of_one(adapter: &Path) -> Result<Option<WantedHead>> {
    let config = read_config(adapter).context("cannot load the adapter")?;
    let task = config.common().task_type.unwrap_or_default();
    match task {
        TaskType::SeqCls | TaskType::TokenCls => {}
        TaskType::FeatureExtraction => return Ok(Some(WantedHead::none())),
        _ => return Ok(None),
    }
    let file = adapter.join(burn_peft::files::CONFIG_NAME);
    let keys = config.to_json();
    let bad = |problem: String| anyhow!("{}: {problem}", file.display());
    let labels = Labels::of(&keys).map_err(bad)?;
    let problem_type = Labels::problem_type_of(&keys).map_err(bad)?;
    let tensors = read_weights(adapter).context("cannot load the adapter")?;
    let weight = |head: &str| tensors.get(&format!("base_model.model.{head}.weight"));
    let weight = HEADS.iter().find_map(|head| weight(head));
    let num_labels = weight.and_then(|weight| weight.shape().first().copied());
    if let (Some(count), Some(labels)) = (num_labels, &labels) {
        let named = labels.names.len();
        ensure!(
            named == count,
            "{}: id2label names {named} labels, and the head of the adapter scores {count}",
            file.display()
        );
    }
    Ok(Some(WantedHead {
        task,
        num_labels,
        labels,
        problem_type,
        pad_token_id: keys.get("pad_token_id").and_then(|id| id.as_i64()),
        seed: 0,
    }))
}

/// As [`head_of`], but a model keeps its head if adapters for embeddings were trained beside one:
/// their tensors have the names of a whole model.
pub fn head_for(files: &ModelFiles, adapters: &[PathBuf]) -> Result<Option<WantedHead>> {
    let head = head_of(adapters)?;
    if !head.as_ref().is_some_and(WantedHead::is_none) {
        return Ok(head);
    }
    let config = AutoConfig::from_file(files.get("config.json")?)?;
    let whole = format!("base_model.model.{}", config.prefix());
    for adapter in adapters {
        let tensors = read_weights(adapter).context("cannot load the adapter")?;
        if tensors.keys().any(|key| key.starts_with(&whole)) {
            return Ok(None);
        }
    }
    Ok(head)
}

/// Rejects an encoder where each token has to be predicted from the tokens before it.
pub fn check_causal(model: &impl CausalLm) -> Result<()> {
    ensure!(
        model.is_causal(),
        "the model is an encoder, whose tokens attend to each other in both directions: it cannot generate text, \
         and has no loss as a language model; train it with training.objective = \"classify\", \"tag\" or \
         \"embed\", and ask it by `peft predict` or `peft forward`"
    );
    Ok(())
}

/// Rejects a classifier, an encoder and a model without a head where a language model is needed.
pub fn check_language_model(model: &impl CausalLm) -> Result<()> {
    let head = model.head();
    if head.is_none() {
        bail!(
            "the model has no head (task_type = {}) and predicts no tokens; `peft predict` gives its \
             embeddings",
            head.task
        );
    }
    if head.classifies() {
        bail!(
            "the model is a classifier (task_type = {}, {} labels) and predicts no tokens; `peft \
             predict` gives its labels",
            head.task,
            head.num_labels()
        );
    }
    check_causal(model)
}
