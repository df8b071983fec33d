//! What an earlier run has left in the folder of a new one.

use std::fs;
use std::path::{Path, PathBuf};

use burn_peft::files::{
    CONFIG_NAME as ADAPTER_CONFIG, STEP_STATE_NAME, TRAINING_NAME, WEIGHTS_NAME,
};
use burn_peft_models::embeddings::SENTENCE_FILES;
use burn_peft_models::weights::weight_files;
use toml::{Table, Value};

use crate::checkpoint::checkpoints::list;
use crate::checkpoint::files::entries_of;
use crate::checkpoint::rank_files::{OUTER_NAME, is_rank_file};
use crate::checkpoint::saved::{OPTIMIZER_NAME, STATE_NAME};
use crate::configuration::config::CONFIG_NAME;
use crate::error::{Result, TrainError};
use crate::seeing::card::{CARD_NAME, is_written_here};
use crate::seeing::metrics_file::METRICS_NAME;
use crate::seeing::report::REPORT_NAME;
use crate::seeing::tensorboard::EVENTS_NAME;

/// Files that every run writes beside its result.
const RECORDS: [&str; 4] = [METRICS_NAME, EVENTS_NAME, REPORT_NAME, CONFIG_NAME];
/// The final files of a run that trains an adapter.
const ADAPTER: [&str; 3] = [ADAPTER_CONFIG, WEIGHTS_NAME, TRAINING_NAME];
/// The final files of a run that trains all weights, in addition to these, and those that it copies
/// from its base.
const MODEL: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// The files in a checkpoint apart from a model's weights, whatever is trained.
const CHECKPOINT: [&str; 8] = [
    STATE_NAME,
    OPTIMIZER_NAME,
    OUTER_NAME,
    ADAPTER_CONFIG,
    WEIGHTS_NAME,
    TRAINING_NAME,
    STEP_STATE_NAME,
    "config.json",
];

/// The results of an earlier run.
#[derive(Debug)]
pub struct OldRun {
    dir: PathBuf,
    /// The names of the final files of such a run, whether they exist or not.
    result: Vec<PathBuf>,
    checkpoints: Vec<PathBuf>,
    has_result: bool,
}

impl OldRun {
    /// Looks for results in a folder: an adapter, a trained model, or checkpoints. `None` if there
    /// is nothing that a new run could destroy.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let checkpoints = list(dir)?.into_iter().map(|(_, path)| path);
        let mut found = Self {
            dir: dir.to_path_buf(),
            result: ADAPTER.map(PathBuf::from).to_vec(),
            checkpoints: checkpoints.collect(),
            has_result: dir.join(WEIGHTS_NAME).exists(),
        };
        if dir.join(SENTENCE_FILES[0]).exists() {
            // For embeddings, with a tokenizer.
            found.result.extend(SENTENCE_FILES.map(PathBuf::from));
            found.result.extend(MODEL[1..].iter().map(PathBuf::from));
        }
        if is_full_training(&dir.join(CONFIG_NAME)) {
            let weights = weights(dir)?;
            found.has_result |= !weights.is_empty();
            found.result.extend(MODEL.map(PathBuf::from));
            let names = weights.iter().filter_map(|path| path.file_name());
            found.result.extend(names.map(PathBuf::from));
        }
        Ok((found.has_result || !found.checkpoints.is_empty()).then_some(found))
    }

    /// Whether the run was completed: there is an adapter or a trained model, not only checkpoints.
    pub fn has_result(&self) -> bool {
        self.has_result
    }

    /// Whether `path`, which a new run reads, is among the files that [`remove`](Self::remove)
    /// deletes.
    pub fn holds(&self, path: &Path) -> bool {
        let (Ok(dir), Ok(path)) = (self.dir.canonicalize(), path.canonicalize()) else {
            return false;
        };
        let checkpoints = self.checkpoints.iter();
        let mut folders = checkpoints.filter_map(|folder| folder.canonicalize().ok());
        let mut result = self.result.iter().map(|name| dir.join(name));
        if path.is_file() {
            return folders.any(|folder| path.parent() == Some(&folder))
                || result.any(|file| file == path);
        }
        folders.any(|folder| folder == path) || dir == path && result.any(|file| file.exists())
    }

    /// Removes what runs write, and nothing else: a file with another name stays, and so does a
    /// folder that contains one.
    ///
    /// # Errors
    /// If a file cannot be removed; the error names it.
    pub fn remove(self) -> Result<()> {
        for folder in &self.checkpoints {
            // The state first: without it, it is no longer a checkpoint.
            CHECKPOINT
                .iter()
                .try_for_each(|name| remove(&folder.join(name)))?;
            weights(folder)?.iter().try_for_each(|path| remove(path))?;
            let entries = entries_of(folder)?;
            let mut of_ranks = entries.iter().filter(|entry| is_rank_file(entry));
            of_ranks.try_for_each(|entry| remove(&folder.join(entry)))?;
            if folder.join(SENTENCE_FILES[0]).exists() {
                for name in SENTENCE_FILES {
                    let path = folder.join(name);
                    remove(&path)?;
                    if let Some(of) = path.parent().filter(|of| of != folder) {
                        // It stays if it contains someone else's file.
                        fs::remove_dir(of).ok();
                    }
                }
            }
            if is_empty(folder)? {
                fs::remove_dir(folder).map_err(TrainError::io(folder))?;
            }
        }
        let card = self.dir.join(CARD_NAME);
        if is_written_here(&card) {
            remove(&card)?;
        }
        let mut files = self.result.into_iter().chain(RECORDS.map(PathBuf::from));
        files.try_for_each(|name| remove(&self.dir.join(name)))
    }
}

/// The files with a model's weights in a folder.
fn weights(folder: &Path) -> Result<Vec<PathBuf>> {
    weight_files(folder).map_err(TrainError::io(folder))
}

fn remove(path: &Path) -> Result<()> {
    if path.is_file() {
        fs::remove_file(path).map_err(TrainError::io(path))?;
    }
    Ok(())
}

fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).map_err(TrainError::io(folder))?;
    Ok(entries.next().is_none())
}

/// Whether this is the `config.toml` of a run that trains all weights.
fn is_full_training(path: &Path) -> bool {
    let text = fs::read_to_string(path).ok();
    let table = text.and_then(|text| text.parse::<Table>().ok());
    let peft_type = table
        .as_ref()
        .and_then(|table| table.get("peft")?.get("peft_type"));
    let peft_type = peft_type.and_then(Value::as_str);
    peft_type.is_some_and(|name| name.eq_ignore_ascii_case("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_write_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        // A folder with the user's own files, and a run without results.
        for name in [
            "notes.txt",
            "checkpoint-notes/a",
            METRICS_NAME,
            "model.safetensors",
        ] {
            write(name);
        }
        assert!(OldRun::find(dir.path()).unwrap().is_none());
        assert!(OldRun::find(&dir.path().join("none")).unwrap().is_none());

        for name in ADAPTER.iter().chain(&RECORDS) {
            write(name);
        }
        for step in [2, 4] {
            let files = CHECKPOINT
                .iter()
                .map(|name| format!("checkpoint-{step}/{name}"));
            files.for_each(|name| write(&name));
        }
        write("checkpoint-2/mine");
        let found = OldRun::find(dir.path()).unwrap().unwrap();
        assert!(found.holds(dir.path()));
        assert!(found.holds(&dir.path().join("checkpoint-4/../checkpoint-4")));
        assert!(found.holds(&dir.path().join("checkpoint-2/mine")));
        assert!(!found.holds(&dir.path().join("checkpoint-notes")));
        found.remove().unwrap();
        let names = |folder: &str| {
            let entries = fs::read_dir(dir.path().join(folder)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let left = [
            "checkpoint-2",
            "checkpoint-notes",
            "model.safetensors",
            "notes.txt",
        ];
        assert_eq!(names(""), left);
        assert_eq!(names("checkpoint-2"), ["mine"]);
        assert!(OldRun::find(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_trained_model_is_a_result_where_the_run_says_that_it_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join(CONFIG_NAME);
        fs::write(&config, "[peft]\npeft_type = 'none'\n").unwrap();
        fs::write(dir.path().join("model.safetensors"), "").unwrap();
        let found = OldRun::find(dir.path()).unwrap().unwrap();
        assert!(found.holds(dir.path()));
        found.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
