//! The files of an embedding run: those that it reads beside its model, and those that it writes
//! beside its result.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use burn_peft::config::TaskType;
use burn_peft_data::{Limits, text_columns};
use burn_peft_models::LanguageModel;
use burn_peft_models::embeddings::Modules;
use burn_peft_models::hub::ModelFiles;
use burn_peft_train::TrainConfig;

use crate::loading::{find_data, modules_of};

/// Completes the configuration of an embedding run: the columns of the rows, and the settings in
/// the files beside the model, if given. Errors name `file`.
pub fn settle(config: &mut TrainConfig, files: Option<&ModelFiles>, file: &Path) -> Result<()> {
    let table = config.embed.clone().unwrap_or_default();
    let named = table.columns.clone().unwrap_or_default();
    let found = text_columns(&config.data, &named, &find_data);
    let (columns, has_score) = found.context("cannot find the columns of texts")?;
    let adapter = config.adapter.as_deref().map(Path::new);
    let modules = files.map(|files| modules_of(files, adapter)).transpose()?;
    let modules = modules.flatten().unwrap_or_default();
    config.embed = Some(table.settled(&modules, columns, has_score));
    Ok(config.recheck_objective(&file.display().to_string())?)
}

/// The dimension of a model's vectors.
fn width(model: &LanguageModel) -> usize {
    model.get_base_model().common().hidden_size
}

/// Rejects dimensions that the model's vectors do not have, and texts that are longer than it
/// takes.
pub fn check(
    config: &TrainConfig,
    files: &ModelFiles,
    model: &LanguageModel,
    limits: Limits,
) -> Result<()> {
    let Some(table) = &config.embed else {
        return Ok(());
    };
    if let Some(max) = table.max_seq_length.filter(|&max| limits.forbid(max)) {
        let adapter = config.adapter.as_deref().map(Path::new);
        let modules = modules_of(files, adapter)?.unwrap_or_default();
        // Models' files contain such lengths too, meaning everything that the model takes.
        ensure!(
            modules.max_seq_length == Some(max),
            "embed.max_seq_length is {max}, more than {}",
            limits.positions()
        );
    }
    let checked = table.check_width(width(model));
    checked.map_err(|problem| anyhow!(problem))
}

/// The settings that the result of an embedding run gets in the files of sentence-transformers, and
/// the width of the model's hidden states; `None` for another run.
pub fn modules(
    config: &TrainConfig,
    base: &ModelFiles,
    model: &LanguageModel,
) -> Result<Option<(Modules, usize)>> {
    let table = match &config.embed {
        Some(table) if config.objective().task_type == TaskType::FeatureExtraction => table,
        _ => return Ok(None),
    };
    let mut modules = modules_of(base, None)?.unwrap_or_default();
    modules.embedder = table.embedder();
    modules.max_seq_length = config.data.max_length.or(table.max_seq_length);
    modules.do_lower_case = table.do_lower_case.unwrap_or_default();
    if modules.prompts.is_empty() {
        modules.prompts.clone_from(&table.prompts);
    }
    Ok(Some((modules, width(model))))
}

/// Writes the files of sentence-transformers, and the tokenizer, beside the result of an embedding
/// run. Returns the new files.
pub fn save(
    config: &TrainConfig,
    base: &ModelFiles,
    model: &LanguageModel,
) -> Result<Vec<PathBuf>> {
    let Some((modules, d)) = modules(config, base, model)? else {
        return Ok(Vec::new());
    };
    let dir = &config.training.output_dir;
    let mut written = Vec::new();
    if !config.is_full_training() {
        written = crate::beside::copy(base, config.tokenizer.as_deref(), dir)?;
    }
    for path in modules.save(dir, d)? {
        if !written.contains(&path) {
            written.push(path);
        }
    }
    Ok(written)
}
