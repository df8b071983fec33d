//! Opening tokenizers.

use std::path::Path;

use anyhow::{Context, Result};
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::{ModelFiles, is_gguf};

use crate::beside;

/// The tokenizer of a model, or the one `given` instead: a folder, a file or a Hub id. `None` if
/// the model has none.
pub fn find_tokenizer(files: &ModelFiles, given: Option<&str>) -> Result<Option<Tokenizer>> {
    if let Some(given) = given {
        return open_tokenizer(given).map(Some);
    }
    if beside::tokenizer_files(files)?.is_empty() {
        Ok(None)
    } else {
        read_tokenizer(files.path()).map(Some)
    }
}

/// A tokenizer by itself: a folder, a file (including a GGUF file) or a Hub id.
pub fn open_tokenizer(given: &str) -> Result<Tokenizer> {
    if Path::new(given).is_file() && !is_gguf(Path::new(given)) {
        return read_tokenizer(Path::new(given));
    }
    read_tokenizer(beside::resolve(given)?.path())
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::load(path).context("cannot load the tokenizer")
}

/// As [`find_tokenizer`], but a missing tokenizer is an error.
pub fn load_tokenizer(files: &ModelFiles, given: Option<&str>) -> Result<Tokenizer> {
    find_tokenizer(files, given)?.with_context(|| {
        format!(
            "{} has no {}: name the tokenizer's folder or file with --tokenizer",
            files.path().display(),
            beside::tokenizer_names()
        )
    })
}
