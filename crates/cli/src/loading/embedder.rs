//! The options for turning a text into one vector.

use std::path::Path;

use anyhow::Result;
use burn_peft_models::embeddings::{Modules, Pooling};
use burn_peft_models::hub::ModelFiles;

/// The options for turning a text into one vector.
#[derive(clap::Args)]
pub struct EmbedderArgs {
    /// How the hidden states of a text become one vector: mean, cls (that of the first token), last,
    /// max, weightedmean or mean_sqrt_len_tokens [default: as the files of sentence-transformers beside
    /// the adapter or the model say, or else mean]
    #[arg(long, value_name = "MODE")]
    pooling: Option<Pooling>,
    /// Normalise every vector to length one [default: as in those files]
    #[arg(long)]
    normalize: bool,
}

impl EmbedderArgs {
    /// Whether vectors are requested.
    pub fn is_given(&self) -> bool {
        self.pooling.is_some() || self.normalize
    }

    /// The settings in the options, completed by the files of sentence-transformers beside the
    /// adapter or else the model; `None` if nothing is set.
    pub fn modules(&self, files: &ModelFiles, adapter: Option<&Path>) -> Result<Option<Modules>> {
        let found = modules_of(files, adapter)?;
        if found.is_none() && !self.is_given() {
            return Ok(None);
        }
        let mut modules = found.unwrap_or_default();
        if let Some(pooling) = self.pooling {
            modules.embedder.pooling = pooling;
        }
        modules.embedder.normalize |= self.normalize;
        Ok(Some(modules))
    }
}

/// The settings in the files of sentence-transformers beside an adapter, or else beside the model.
pub fn modules_of(files: &ModelFiles, adapter: Option<&Path>) -> Result<Option<Modules>> {
    if let Some(adapter) = adapter
        && let Some(found) = Modules::read(&ModelFiles::folder(adapter))?
    {
        return Ok(Some(found));
    }
    Ok(Modules::read(files)?)
}
