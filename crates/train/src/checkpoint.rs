//! `checkpoint-N` folders: whole or not there, and no more of them than wanted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, TrainError};
use crate::files::write_folder;

/// The checkpoints a run has written.
pub(crate) struct Checkpoints {
    dir: PathBuf,
    limit: usize,
    written: Vec<Checkpoint>,
}

struct Checkpoint {
    path: PathBuf,
    /// What was put into it, each folder after what is in it.
    entries: Vec<PathBuf>,
}

impl Checkpoints {
    /// For a folder, in which this run keeps at most `limit` checkpoints.
    pub fn new(dir: &Path, limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        Self {
            dir: dir.to_path_buf(),
            limit,
            written: Vec::new(),
        }
    }

    /// Writes the checkpoint of a step, then removes the oldest if there are too many.
    pub fn save(&mut self, step: usize, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.dir.join(format!("checkpoint-{step}"));
        let mut entries = Vec::new();
        write_folder(&path, |folder| {
            fill(folder)?;
            list(folder, Path::new(""), &mut entries).map_err(TrainError::io(folder))
        })?;
        self.written.push(Checkpoint { path, entries });
        while self.written.len() > self.limit {
            self.written.remove(0).remove()?;
        }
        Ok(())
    }

    /// The folders there are, the oldest first.
    pub fn paths(&self) -> impl DoubleEndedIterator<Item = &Path> {
        self.written
            .iter()
            .map(|checkpoint| checkpoint.path.as_path())
    }
}

impl Checkpoint {
    /// Removes what the run put there. A folder with anything else in it stays.
    fn remove(self) -> Result<()> {
        for entry in &self.entries {
            let path = self.path.join(entry);
            match path.is_dir() {
                true => drop(fs::remove_dir(&path)),
                false => fs::remove_file(&path).map_err(TrainError::io(&path))?,
            }
        }
        drop(fs::remove_dir(&self.path));
        Ok(())
    }
}

/// Everything in a folder, relative to it, each folder after what is in it.
fn list(root: &Path, inside: &Path, entries: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(inside))? {
        let entry = entry?;
        let path = inside.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, entries)?;
        }
        entries.push(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_a_strangers_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::new(dir.path(), Some(2));
        for step in 1..=4 {
            let fill = |folder: &Path| {
                fs::create_dir(folder.join("other")).unwrap();
                fs::write(folder.join("other/adapter"), "").unwrap();
                Ok(())
            };
            checkpoints.save(step, fill).unwrap();
            if step == 1 {
                fs::write(dir.path().join("checkpoint-1/notes"), "mine").unwrap();
            }
        }
        let there = |name: &str| dir.path().join(name).exists();
        assert!(there("checkpoint-1/notes") && !there("checkpoint-1/other"));
        assert!(!there("checkpoint-2"));
        assert!(there("checkpoint-3/other/adapter") && there("checkpoint-4/other/adapter"));
        assert_eq!(
            checkpoints.paths().next_back(),
            Some(&*dir.path().join("checkpoint-4"))
        );
    }
}
