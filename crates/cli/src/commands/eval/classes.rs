//! `peft eval` of classifiers and reward models.

use anyhow::{Context, Result, ensure};
use burn_peft::config::TaskType;
use burn_peft_data::{Classes, DataConfig, holds_pairs};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, CausalLm, Head, LanguageModel, ProblemType};
use burn_peft_train::{ClassifyConfig, ObjectiveName, TrainConfig};

use crate::loading::find_data;

/// The task of a classifier with this head.
pub fn task_of(head: &Head) -> Classes {
    let config = ClassifyConfig {
        labels: Some(head.labels.names.clone()),
        problem_type: Some(problem_of(head)),
    };
    config.task()
}

/// How the labels of a head were learnt.
fn problem_of(head: &Head) -> ProblemType {
    let told = match head.num_labels() {
        1 => ProblemType::Regression,
        _ => ProblemType::SingleLabelClassification,
    };
    head.labels.problem_type.unwrap_or(told)
}

/// Whether the model's own files have the head of a classifier.
pub fn is_classifier(files: &ModelFiles) -> Result<bool> {
    let config = AutoConfig::from_file(files.get("config.json")?)?;
    Ok(config.head().classifies())
}

/// What a classifier is measured by: as a reward model where it has one label and the rows are pairs of
/// answers, or else by the labels of texts.
pub fn settings(model: &LanguageModel, data: &str, config: &DataConfig) -> Result<TrainConfig> {
    let head = model.head();
    ensure!(
        head.task == TaskType::SeqCls,
        "a model with task_type = {} is not evaluated",
        head.task
    );
    // What is wrong with the file is said when it is read.
    let is_reward =
        head.num_labels() == 1 && holds_pairs(data, config, &find_data).unwrap_or(false);
    let name = if is_reward { "reward" } else { "classify" };
    let objective = ObjectiveName::find(name).context("there is no such objective")?;
    let mut settings = TrainConfig::of_objective(objective);
    settings.classify = (!is_reward).then(|| ClassifyConfig {
        problem_type: Some(problem_of(&head)),
        labels: Some(head.labels.names),
    });
    Ok(settings)
}
