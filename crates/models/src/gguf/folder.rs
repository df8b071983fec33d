//! A GGUF file as the folder that transformers would have for it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use tempfile::TempDir;

use super::Gguf;
use super::architecture::Architecture;
use super::config::{config, generation_config};
use super::tokenizer::tokenizer;
use super::weights::GgufWeights;
use super::write::KeyValue;
use crate::error::{ModelError, Result};

/// The folders that exist. A folder that is just being removed may be among them.
static FOLDERS: Mutex<Vec<(PathBuf, Weak<TempDir>)>> = Mutex::new(Vec::new());

/// Removes the folders that stand for GGUF files, for a process that is about to exit without
/// dropping their [`ModelFiles`](crate::hub::ModelFiles). Any thread that asks for such a folder
/// afterwards blocks forever.
pub fn remove_folders() {
    let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    for (folder, _) in folders.drain(..) {
        // Another thread may create a file in it meanwhile. The error has no one to go to.
        let mut rounds = 0..100;
        while folder.exists() && rounds.next().is_some() {
            fs::remove_dir_all(&folder).ok();
        }
    }
    // Other threads run until the process ends: they block on the lock before they create a folder.
    std::mem::forget(folders);
}

/// A new folder in the system's folder for temporary files, which only its owner can read, and
/// which [`remove_folders`] removes as well.
///
/// # Errors
/// If the disk fails.
pub fn own_folder() -> Result<Arc<TempDir>> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("peft-gguf-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o700));
    }
    // The lock comes first, so that every folder created is one that will be removed.
    let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = builder.tempdir();
    let folder = Arc::new(folder.map_err(ModelError::io(std::env::temp_dir()))?);
    folders.retain(|(path, folder)| folder.strong_count() > 0 || path.exists());
    folders.push((folder.path().to_path_buf(), Arc::downgrade(&folder)));
    Ok(folder)
}

/// A GGUF file, and a folder of the same name with the small files that a model folder has beside
/// its weights. The folder is removed with the last copy of this.
#[derive(Clone, Debug)]
pub(crate) struct Translated {
    file: Arc<Gguf>,
    architecture: &'static Architecture,
    folder: Arc<TempDir>,
}

impl Translated {
    /// Reads everything but the tensors of a file.
    ///
    /// # Errors
    /// If the file is malformed or of an unsupported architecture, or a key is missing or of
    /// another type.
    pub fn new(file: Gguf) -> Result<Self> {
        let key = "general.architecture";
        let name = file.text(key)?.ok_or_else(|| file.missing(key))?;
        let architecture = Architecture::of(name).ok_or_else(|| {
            let all = Architecture::all();
            file.error(format!(
                "{key} = {name:?} is not supported; supported: {all}"
            ))
        })?;
        let mut written = vec![
            ("config.json", Value::Object(config(&file, architecture)?)),
            ("generation_config.json", generation_config(&file)?),
        ];
        if let Some(files) = tokenizer(&file, name)? {
            written.push(("tokenizer.json", files.tokenizer));
            written.push(("tokenizer_config.json", files.config));
        }
        let folder = own_folder()?;
        let named = folder_in(&folder, &file);
        fs::create_dir(&named).map_err(ModelError::io(&named))?;
        for (name, value) in written {
            let path = named.join(name);
            fs::write(&path, format!("{value:#}\n")).map_err(ModelError::io(&path))?;
        }
        Ok(Self {
            file: Arc::new(file),
            architecture,
            folder,
        })
    }

    /// The folder.
    pub fn folder(&self) -> PathBuf {
        folder_in(&self.folder, &self.file)
    }

    /// The file's raw keys about its tokenizer and sampling.
    pub fn tokenizer_keys(&self) -> Vec<(String, KeyValue)> {
        let starts = ["general.sampling.", "tokenizer."];
        starts
            .iter()
            .flat_map(|start| self.file.copied(start))
            .collect()
    }

    /// The file's weights.
    ///
    /// # Errors
    /// If a tensor has another shape than the file's keys say.
    pub fn weights(&self) -> Result<GgufWeights> {
        GgufWeights::new(Arc::clone(&self.file), self.architecture)
    }
}

/// It has the file's name, because errors show it.
fn folder_in(folder: &TempDir, file: &Gguf) -> PathBuf {
    folder
        .path()
        .join(file.path().file_name().unwrap_or_default())
}
