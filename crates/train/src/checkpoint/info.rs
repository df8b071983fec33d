//! Finding the checkpoint that a run resumes from.

use std::path::{Path, PathBuf};

use crate::checkpoint::checkpoints::list;
use crate::checkpoint::saved::{STATE_NAME, Saved};
use crate::error::{Result, ResumeProblem, TrainError};
use crate::exchange::Exchange;
use crate::run::same::check;

/// A checkpoint on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its folder.
    pub path: PathBuf,
    /// The number of optimizer steps done.
    pub step: usize,
    /// The number of steps of the whole run.
    pub total_steps: usize,
    /// The number of processes that the run was started with.
    pub ranks: usize,
    /// The hash of its state and its files.
    hash: String,
}

impl CheckpointInfo {
    /// The checkpoint at `path`: a `checkpoint-N` folder, or the output folder of a run, whose
    /// [`latest`](Self::latest) is taken.
    ///
    /// # Errors
    /// If there is none, or the named one is damaged.
    pub fn find(path: &Path) -> Result<Self> {
        if path.join(STATE_NAME).is_file() {
            let saved = Saved::read(path)?;
            saved.check_files(path)?;
            return Self::new(path, &saved);
        }
        Self::latest(path)?
            .ok_or_else(|| TrainError::resume(path, ResumeProblem::NoCheckpoint(STATE_NAME)))
    }

    /// The most recent checkpoint in a run's output folder, if there is one. Damaged ones are
    /// skipped with a warning.
    ///
    /// # Errors
    /// If the folder cannot be read, or all checkpoints in it are damaged.
    pub fn latest(output_dir: &Path) -> Result<Option<Self>> {
        let (mut readable, mut broken) = (Vec::new(), Vec::new());
        for (step, path) in list(output_dir)? {
            match Saved::read(&path) {
                Ok(saved) => readable.push((saved, path)),
                Err(error) => broken.push((step, error)),
            }
        }
        readable.sort_by_key(|(saved, _)| saved.saved_at);
        let mut latest = None;
        while let (None, Some((saved, path))) = (&latest, readable.pop()) {
            match saved.check_files(&path) {
                Ok(()) => latest = Some(Self::new(&path, &saved)?),
                Err(error) => broken.push((saved.state.global_step, error)),
            }
        }
        let step = latest.as_ref().map_or(0, |latest| latest.step);
        for (_, error) in broken.iter().filter(|(broken, _)| *broken > step) {
            tracing::warn!("{error}; this checkpoint is skipped");
        }
        if latest.is_none() && !broken.is_empty() {
            return Err(TrainError::resume(output_dir, ResumeProblem::AllBroken));
        }
        Ok(latest)
    }

    /// Checks that every rank has found the same checkpoint: a host may have an older one of this
    /// name.
    ///
    /// # Errors
    /// If one rank has not, on every rank.
    pub fn check_same(&self, exchange: &dyn Exchange) -> Result<()> {
        let what = format!("another checkpoint of step {}", self.step);
        check(exchange, vec![(what, format!("BLAKE3 {}", self.hash))])
    }

    fn new(path: &Path, saved: &Saved) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            step: saved.state.global_step,
            total_steps: saved.total_steps,
            ranks: saved.state.ranks,
            hash: blake3::hash(saved.to_toml()?.as_bytes()).to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::saved::{OPTIMIZER_NAME, tests::saved};
    use crate::checkpoint::whole::hashes;

    /// A checkpoint of a step with an optimizer's state.
    fn write(dir: &Path, step: usize, saved_at: u64) -> PathBuf {
        let path = dir.join(format!("checkpoint-{step}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(OPTIMIZER_NAME), "moments").unwrap();
        let mut saved = saved("model = 'm'\n[training]\noutput_dir = 'o'\n");
        saved.saved_at = saved_at;
        saved.state.global_step = step;
        saved.files = hashes(&path).unwrap();
        fs::write(path.join(STATE_NAME), saved.to_toml().unwrap()).unwrap();
        path
    }

    #[test]
    fn the_latest_is_the_one_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let none = CheckpointInfo::latest(&dir.path().join("none"));
        assert_eq!(none.unwrap(), None);
        for (step, saved_at) in [(10, 5), (20, 9), (40, 2)] {
            write(dir.path(), step, saved_at);
        }
        fs::create_dir(dir.path().join("checkpoint-50")).unwrap();
        let latest = CheckpointInfo::latest(dir.path()).unwrap().unwrap();
        assert_eq!(latest.path, dir.path().join("checkpoint-20"));
        assert_eq!(CheckpointInfo::find(dir.path()).unwrap(), latest);
        let error = CheckpointInfo::find(&dir.path().join("checkpoint-50")).unwrap_err();
        assert!(error.to_string().contains("is not a checkpoint"), "{error}");
    }

    #[test]
    fn a_broken_checkpoint_is_passed_over_and_an_error_if_it_is_named() {
        type Break = fn(&Path);
        let ways: [(&str, Break); 7] = [
            ("an empty state", |path| {
                fs::write(path.join(STATE_NAME), "").unwrap();
            }),
            ("half a state", |path| {
                let state = fs::read(path.join(STATE_NAME)).unwrap();
                fs::write(path.join(STATE_NAME), &state[..state.len() - 20]).unwrap();
            }),
            ("a state of bytes", |path| {
                fs::write(path.join(STATE_NAME), [0xff; 100]).unwrap();
            }),
            ("no state", |path| {
                fs::remove_file(path.join(STATE_NAME)).unwrap();
            }),
            ("an empty file", |path| {
                fs::write(path.join(OPTIMIZER_NAME), "").unwrap();
            }),
            ("a file of zeros", |path| {
                fs::write(path.join(OPTIMIZER_NAME), [0; 7]).unwrap();
            }),
            ("a missing file", |path| {
                fs::remove_file(path.join(OPTIMIZER_NAME)).unwrap();
            }),
        ];
        for (what, spoil) in ways {
            let dir = tempfile::tempdir().unwrap();
            let whole = write(dir.path(), 2, 1);
            let newest = write(dir.path(), 4, 2);
            spoil(&newest);
            let latest = CheckpointInfo::latest(dir.path()).unwrap().unwrap();
            assert_eq!((latest.path, latest.step), (whole.clone(), 2), "{what}");
            let error = CheckpointInfo::find(&newest).unwrap_err().to_string();
            assert!(error.contains("checkpoint-4"), "{what}: {error}");

            spoil(&whole);
            let error = CheckpointInfo::latest(dir.path()).unwrap_err().to_string();
            assert!(error.contains("every checkpoint in it"), "{what}: {error}");
        }
    }
}
