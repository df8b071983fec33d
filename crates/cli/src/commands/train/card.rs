//! The model card of a run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn_peft::config::TaskType;
use burn_peft::files::read_config;
use burn_peft_data::{DataSet, SlicedPath};
use burn_peft_train::{CARD_NAME, DataFile, ModelCard, Report, TrainConfig};

use super::commands::generate_command;

/// Writes the model card of a run with this report beside its result, unless there is one that the
/// run must not replace.
pub fn write_card(
    report: &Report,
    config: &TrainConfig,
    data: &DataSet,
) -> Result<Option<PathBuf>> {
    let dir = &config.training.output_dir;
    let saved = if config.is_full_training() {
        None
    } else {
        Some(read_config(dir)?)
    };
    let peft_type = saved.as_ref().map(|method| method.peft_type());
    let written = card(report, config, data, peft_type).save(dir)?;
    if written.is_none() {
        tracing::warn!(
            "{} was not written by peft, or was changed since: it stays as it is, and this run has no \
             model card",
            dir.join(CARD_NAME).display()
        );
    }
    Ok(written)
}

fn card<'a>(
    report: &'a Report,
    config: &'a TrainConfig,
    data: &DataSet,
    peft_type: Option<&'a str>,
) -> ModelCard<'a> {
    let train = data.train.sets().iter().map(|set| (set, true));
    let validation = data.validation.iter().flat_map(|data| data.sets());
    let files = train.chain(validation.map(|set| (set, false)));
    let files = files.map(|(examples, is_trained)| DataFile {
        name: examples.file.clone(),
        is_trained,
        examples: examples.rows(),
        tokens: examples.tokens(),
    });
    let specs = config.data.train.sets().into_iter().map(|set| set.spec());
    let mut datasets: Vec<String> = Vec::new();
    let validation = config.data.validation.iter().flat_map(|sets| sets.sets());
    for spec in specs.chain(validation.map(|set| set.spec())) {
        datasets.extend(dataset_id(&spec).filter(|id| !datasets.contains(id)));
    }
    ModelCard {
        report,
        base_model: &config.model,
        hub_id: hub_id(&config.model),
        peft_type,
        data: files.collect(),
        datasets,
        command: generate_command(config, data.train.has_chats()),
        folder: config.training.output_dir.display().to_string(),
        is_chat: data.train.has_chats(),
        classifier: classifier(config),
        labels: config
            .head_labels()
            .map(|labels| labels.names)
            .unwrap_or_default(),
        is_embedder: config.objective().task_type == TaskType::FeatureExtraction,
    }
}

/// The suffix of a classifier's class in transformers, and the number of labels.
fn classifier(config: &TrainConfig) -> Option<(&'static str, usize)> {
    let kind = config.objective();
    let class = match kind.task_type {
        TaskType::SeqCls => "SequenceClassification",
        TaskType::TokenCls => "TokenClassification",
        _ => return None,
    };
    let labels = config.head_labels().map(|labels| labels.names.len());
    let count = kind.num_labels.or(labels);
    count.map(|count| (class, count))
}

/// The id of a model that is not a local file or folder, without its revision and without the name
/// of a file in the repository.
fn hub_id(model: &str) -> Option<&str> {
    if Path::new(model).exists() {
        return None;
    }
    model.split(['@', ':']).next()
}

/// The id of a data set that is not a local file, without its split and slice.
fn dataset_id(spec: &str) -> Option<String> {
    let path = SlicedPath::new(spec).path;
    let id = path.split_once(':').map_or(path, |(id, _)| id);
    let is_here = [spec, path, id].iter().any(|path| Path::new(path).exists());
    (!is_here).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_an_owner_and_a_name() {
        for (model, id) in [
            ("gpt2", "gpt2"),
            ("me/model", "me/model"),
            ("me/model@main", "me/model"),
            ("me/model:q8/model-Q8_0.gguf", "me/model"),
        ] {
            assert_eq!(hub_id(model), Some(id));
        }
        assert_eq!(hub_id("src"), None);
        assert_eq!(dataset_id("me/data:train[:5]").as_deref(), Some("me/data"));
        assert_eq!(dataset_id("src[:5]"), None);
    }
}
