//! `peft eval` for embedding models.

use std::path::Path;

use anyhow::{Context, Result};
use burn_peft_data::DataConfig;
use burn_peft_models::WantedHead;
use burn_peft_models::hub::ModelFiles;
use burn_peft_train::{ObjectiveName, TrainConfig};

use super::Args;
use crate::commands::train::settle_labels;
use crate::loading::modules_of;

const NAME: &str = "embed";

/// No head, if the options ask for embeddings, or if a model without adapters has no other sign of
/// its purpose than the files of sentence-transformers beside it.
pub fn wanted(args: &Args, files: &ModelFiles) -> Result<Option<WantedHead>> {
    let is_asked = match args.rows.objective {
        Some(objective) => objective.kind().name == NAME,
        None => args.model.adapter.is_empty() && modules_of(files, None)?.is_some(),
    };
    Ok(is_asked.then(WantedHead::none))
}

/// The objective for evaluating an embedding model on such rows.
pub fn settings(args: &Args, files: &ModelFiles, config: &DataConfig) -> Result<TrainConfig> {
    let objective = ObjectiveName::find(NAME).context("there is no such objective")?;
    let mut settings = TrainConfig::of_objective(objective);
    settings.data = config.clone();
    let adapter = args.model.adapter.first();
    settings.adapter = adapter.map(|adapter| adapter.display().to_string());
    let rows = args.rows.batch_rows();
    settings.training.per_device_eval_batch_size = rows;
    settings.training.per_device_train_batch_size = rows;
    settle_labels(&mut settings, Some(files), Path::new(&args.data))?;
    Ok(settings)
}
