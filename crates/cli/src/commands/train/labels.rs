//! The labels of a classification run: from the training file, the model, or the rows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn_peft::config::TaskType;
use burn_peft_data::{LabelKind, Rows, has_several_labels, labels_of};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, Labels, ProblemType};
use burn_peft_train::{ClassifyConfig, TrainConfig};

use crate::loading::{find_data, head_of};

/// Fills in the labels of a classification run if its configuration has none: the model's, if its
/// files are given, or else those of the rows. Errors name `file`.
pub fn settle(config: &mut TrainConfig, files: Option<&ModelFiles>, file: &Path) -> Result<()> {
    let kind = config.objective();
    if kind.task_type == TaskType::FeatureExtraction {
        return super::embed::settle(config, files, file);
    }
    if kind.task_type == TaskType::CausalLm || kind.num_labels.is_some() {
        return Ok(());
    }
    let of_model = match files {
        Some(files) => of_model(config, files)?,
        None => None,
    };
    if kind.task_type == TaskType::TokenCls {
        let mut table = config.tag.clone().unwrap_or_default();
        if table.labels.is_none() {
            let found = match of_model {
                Some(labels) => labels,
                None => of_rows(config, Rows::Tagged)?,
            };
            tracing::info!("{}", listed(&found.names));
            table.labels = Some(found.names);
        }
        config.tag = Some(table);
        return Ok(config.recheck_objective(&file.display().to_string())?);
    }
    let given = config.classify.clone().unwrap_or_default();
    let found = match (&given.labels, of_model) {
        (Some(names), _) => Labels {
            names: names.clone(),
            problem_type: None,
        },
        (None, Some(labels)) => labels,
        // A number has no names.
        (None, None) if given.problem_type == Some(ProblemType::Regression) => Labels::numbered(1),
        (None, None) => of_rows(config, Rows::Labelled)?,
    };
    let mut problem_type = given.problem_type.or(found.problem_type);
    // The names alone do not tell whether a text has one of them or several.
    if problem_type.is_none()
        && found.names.len() > 1
        && has_several_labels(&config.data, &find_data)? == Some(true)
    {
        problem_type = Some(ProblemType::MultiLabelClassification);
    }
    let classify = ClassifyConfig {
        problem_type: Some(problem_type.unwrap_or(match found.names.len() {
            1 => ProblemType::Regression,
            _ => ProblemType::SingleLabelClassification,
        })),
        labels: Some(match problem_type {
            // Only the training file can tell whole numbers from labels.
            Some(ProblemType::Regression) if given.labels.is_none() => {
                found.names.into_iter().take(1).collect()
            }
            _ => found.names,
        }),
        ..given
    };
    if let (Some(problem_type), Some(names)) = (classify.problem_type, &classify.labels) {
        match problem_type {
            ProblemType::Regression => tracing::info!("{problem_type}: a number for each text"),
            _ => tracing::info!("{problem_type}: {}", listed(names)),
        }
    }
    config.classify = Some(classify);
    Ok(config.recheck_objective(&file.display().to_string())?)
}

/// The labels of the adapter that is trained further, or of a model that is a classifier.
fn of_model(config: &TrainConfig, files: &ModelFiles) -> Result<Option<Labels>> {
    let adapter = config.adapter.as_ref().map(PathBuf::from);
    let own = AutoConfig::from_file(files.get("config.json")?)?;
    if let Some(head) = head_of(adapter.as_slice())? {
        let count = head.num_labels;
        let labels = head
            .labels
            .or_else(|| Labels::of(&own.keys()).ok().flatten());
        let labels = labels.filter(|labels| count.is_none_or(|count| count == labels.names.len()));
        let labels = labels.or_else(|| count.map(Labels::numbered));
        return Ok(labels.map(|labels| Labels {
            problem_type: head.problem_type.or(labels.problem_type),
            ..labels
        }));
    }
    let head = own.head();
    Ok((head.task == config.objective().task_type).then_some(head.labels))
}

/// The labels of the training rows.
fn of_rows(config: &TrainConfig, rows: Rows) -> Result<Labels> {
    let (names, kind) =
        labels_of(rows, &config.data, &find_data).context("cannot tell the labels")?;
    ensure!(
        names.len() > 1 || kind == LabelKind::Number || kind == LabelKind::Several,
        "all rows have the same label ({}): there is nothing to choose from",
        names.join(", ")
    );
    let problem_type = match kind {
        LabelKind::One => ProblemType::SingleLabelClassification,
        LabelKind::Several => ProblemType::MultiLabelClassification,
        LabelKind::Number => ProblemType::Regression,
    };
    Ok(Labels {
        names,
        problem_type: Some(problem_type),
    })
}

/// The number of labels, and the first of them.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(8).map(String::as_str).collect::<Vec<_>>();
    let more = if names.len() > 8 { ", …" } else { "" };
    format!("{} labels: {}{more}", names.len(), shown.join(", "))
}
