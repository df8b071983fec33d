//! `checkpoint-N` folders: complete or absent, and no more of them than wanted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::files::{entries_of, remove_folder, tidy, write_folder};
use crate::checkpoint::rank_files::is_rank_file;
use crate::checkpoint::saved::{OPTIMIZER_NAME, STATE_NAME, Saved};
use crate::error::{Result, TrainError};

/// The prefix of a checkpoint folder's name.
const PREFIX: &str = "checkpoint-";

/// The checkpoints a run has written.
pub(crate) struct Checkpoints {
    dir: PathBuf,
    limit: usize,
    /// Their steps, in ascending order.
    written: Vec<usize>,
    /// The step of the best checkpoint, which is kept however old it is.
    pub best: Option<usize>,
}

impl Checkpoints {
    /// The checkpoints in a folder, of which this run keeps at most `limit`, and the best.
    pub fn new(dir: &Path, limit: Option<usize>) -> Result<Self> {
        tidy(dir, PREFIX)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            limit: limit.unwrap_or(usize::MAX),
            written: Vec::new(),
            best: None,
        })
    }

    /// The checkpoints that another rank keeps in a folder.
    pub fn of_others(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            limit: usize::MAX,
            written: Vec::new(),
            best: None,
        }
    }

    /// Takes over the checkpoints in the folder that the resumed run has written before.
    pub fn adopt(&mut self, saved: &Saved) -> Result<()> {
        for (step, path) in list(&self.dir)? {
            let before = step <= saved.state.global_step;
            if before && Saved::read(&path).is_ok_and(|other| other.is_same_run(saved)) {
                self.written.push(step);
            }
        }
        Ok(())
    }

    /// Writes the checkpoint of a step, then removes the oldest if there are too many.
    pub fn save(&mut self, step: usize, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.path(step);
        let mut entries = Vec::new();
        write_folder(&path, |folder| {
            fill(folder)?;
            entries = entries_of(folder)?;
            Ok(())
        })?;
        self.note(step);
        while self.written.len() > self.limit {
            let last = self.written.len() - 1;
            let best = self.best;
            let removable = |&i: &usize| Some(self.written[i]) != best;
            let Some(oldest) = (0..last).find(removable) else {
                break;
            };
            let oldest = self.written.remove(oldest);
            self.remove(&self.path(oldest), &entries)?;
        }
        Ok(())
    }

    /// Records that another rank writes the checkpoint of a step.
    pub fn note(&mut self, step: usize) {
        self.written.retain(|&other| other != step);
        self.written.push(step);
    }

    /// The step of the last checkpoint.
    pub fn last(&self) -> Option<usize> {
        self.written.last().copied()
    }

    /// The folder of a step's checkpoint.
    pub fn path(&self, step: usize) -> PathBuf {
        self.dir.join(format!("{PREFIX}{step}"))
    }

    /// The existing folders, the oldest first.
    pub fn paths(&self) -> impl DoubleEndedIterator<Item = PathBuf> {
        self.written.iter().map(|&step| self.path(step))
    }

    /// Removes what the run puts into a checkpoint. A folder that contains anything else stays.
    fn remove(&self, path: &Path, entries: &[PathBuf]) -> Result<()> {
        // There may have been more ranks.
        let is_ours = |entry: &&PathBuf| entries.contains(entry) || is_rank_file(entry);
        let there = entries_of(path)?;
        if there.iter().all(|entry| is_ours(&entry)) {
            return remove_folder(path);
        }
        // The files that make it a checkpoint come first.
        let state = PathBuf::from(STATE_NAME);
        for entry in std::iter::once(&state).chain(there.iter().filter(is_ours)) {
            let path = path.join(entry);
            if path.is_dir() {
                fs::remove_dir(&path).ok();
            } else if path.exists() {
                fs::remove_file(&path).map_err(TrainError::io(&path))?;
            }
        }
        Ok(())
    }
}

/// The checkpoints in a folder by step, in ascending order; they may be damaged.
pub(crate) fn list(dir: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let read = || -> std::io::Result<Vec<(usize, PathBuf)>> {
        let mut found = Vec::new();
        if !dir.is_dir() {
            return Ok(found);
        }
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let step = name.strip_prefix(PREFIX).and_then(|step| step.parse().ok());
            if let Some(step) = step
                && (path.join(STATE_NAME).is_file() || path.join(OPTIMIZER_NAME).is_file())
            {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    };
    read().map_err(TrainError::io(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(folder: &Path) -> Result<()> {
        fs::create_dir(folder.join("other")).unwrap();
        fs::write(folder.join("other/adapter"), "").unwrap();
        fs::write(folder.join(STATE_NAME), "").unwrap();
        Ok(())
    }

    #[test]
    fn the_oldest_goes_and_a_strangers_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::new(dir.path(), Some(2)).unwrap();
        for step in 1..=4 {
            checkpoints.save(step, fill).unwrap();
            if step == 1 {
                fs::write(dir.path().join("checkpoint-1/notes"), "mine").unwrap();
            }
        }
        let there = |name: &str| dir.path().join(name).exists();
        assert!(there("checkpoint-1/notes") && !there("checkpoint-1/other"));
        assert!(!there("checkpoint-2"));
        assert!(there("checkpoint-3/other/adapter") && there("checkpoint-4/other/adapter"));
        assert_eq!(checkpoints.last(), Some(4));
        // The one with someone else's file is no longer a checkpoint.
        let steps: Vec<usize> = list(dir.path())
            .unwrap()
            .into_iter()
            .map(|(s, _)| s)
            .collect();
        assert_eq!(steps, [3, 4]);
    }

    #[test]
    fn the_best_stays_and_so_does_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::new(dir.path(), Some(1)).unwrap();
        for step in 1..=4 {
            checkpoints.save(step, fill).unwrap();
            checkpoints.best = Some(2);
        }
        let steps: Vec<usize> = list(dir.path())
            .unwrap()
            .into_iter()
            .map(|(s, _)| s)
            .collect();
        assert_eq!(steps, [2, 4]);
    }
}
