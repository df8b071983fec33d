//! The model card of a run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn_peft::files::read_config;
use burn_peft_data::{DataSet, SlicedPath};
use burn_peft_train::{CARD_NAME, DataFile, ModelCard, Report, TrainConfig};

use super::commands::generate_command;

/// Writes the card of a run with this report beside its result, unless one is there that is not the
/// run's to replace.
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
    let train = Some((&data.train, true));
    let validation = data.validation.as_ref().map(|data| (data, false));
    let files = train.into_iter().chain(validation);
    let files = files.map(|(examples, is_trained)| DataFile {
        name: examples.file.clone(),
        is_trained,
        examples: examples.len(),
        tokens: examples.tokens(),
    });
    let mut datasets: Vec<String> = [Some(&config.data.train), config.data.validation.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|spec| dataset_id(spec))
        .collect();
    datasets.dedup();
    ModelCard {
        report,
        base_model: &config.model,
        hub_id: hub_id(&config.model),
        peft_type,
        data: files.collect(),
        datasets,
        command: generate_command(config, data.train.shape.is_chat()),
        folder: config.training.output_dir.display().to_string(),
        is_chat: data.train.shape.is_chat(),
    }
}

/// The id of a model that is no folder here, without its revision.
fn hub_id(model: &str) -> Option<&str> {
    if Path::new(model).exists() {
        return None;
    }
    Some(model.split_once('@').map_or(model, |(id, _)| id))
}

/// The id of a data set that is no file here, without its split and slice.
fn dataset_id(spec: &str) -> Option<String> {
    let path = SlicedPath::new(spec).path;
    let id = path.split_once(':').map_or(path, |(id, _)| id);
    let is_here = [spec, path, id].iter().any(|path| Path::new(path).exists());
    (!is_here).then(|| id.to_owned())
}
