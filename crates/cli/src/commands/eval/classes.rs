//! `peft eval` for classifiers and reward models.

use anyhow::{Context, Result};
use burn_peft::config::TaskType;
use burn_peft_data::{Classes, DataConfig, holds_pairs};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, CausalLm, Head, LanguageModel, ProblemType};
use burn_peft_train::{ClassifyConfig, ObjectiveName, TagConfig, TrainConfig};

use crate::loading::find_data;

/// The task of a classifier with this head.
pub fn task_of(head: &Head) -> Classes {
    let config = ClassifyConfig {
        labels: Some(head.labels.names.clone()),
        problem_type: Some(problem_of(head)),
        ..ClassifyConfig::default()
    };
    config.task()
}

/// How the labels of a head were learnt.
fn problem_of(head: &Head) -> ProblemType {
    head.labels.problem_type.unwrap_or(head.usual())
}

/// Whether the model's own files contain the head of a classifier.
pub fn is_classifier(files: &ModelFiles) -> Result<bool> {
    let config = AutoConfig::from_file(files.get("config.json")?)?;
    Ok(config.head().classifies())
}

/// The objective for evaluating a classifier: as a reward model if it has one label and the rows
/// are pairs of answers, otherwise by the labels of texts.
pub fn settings(model: &LanguageModel, data: &str, config: &DataConfig) -> Result<TrainConfig> {
    let head = model.head();
    // A problem with the file is reported when it is read.
    let is_reward =
        head.num_labels() == 1 && holds_pairs(data, config, &find_data).unwrap_or(false);
    let is_tagger = head.task == TaskType::TokenCls;
    let name = match head.task {
        TaskType::TokenCls => "tag",
        _ if is_reward => "reward",
        _ => "classify",
    };
    let objective = ObjectiveName::find(name).context("there is no such objective")?;
    let mut settings = TrainConfig::of_objective(objective);
    let problem_type = Some(problem_of(&head));
    let labels = Some(head.labels.names);
    if is_tagger {
        settings.tag = Some(TagConfig {
            labels,
            ..TagConfig::default()
        });
    } else if !is_reward {
        settings.classify = Some(ClassifyConfig {
            labels,
            problem_type,
            ..ClassifyConfig::default()
        });
    }
    Ok(settings)
}
