//! The output folder of a run: created, tested for writing, and locked against other runs.

use std::fs::{self, File, TryLockError};
use std::io::{Error as IoError, Read, Write};
use std::path::{Path, PathBuf};

use crate::configuration::config::CONFIG_NAME;
use crate::error::{ArgumentProblem, Result, TrainError};
use crate::seeing::metrics_file::METRICS_NAME;
use crate::seeing::report::REPORT_NAME;
use crate::seeing::tensorboard::EVENTS_NAME;

/// The file with the system's lock; it contains the process id.
const LOCK_NAME: &str = ".peft.lock";

/// An output folder that only this process writes to, and no other run.
///
/// The lock is the system's, so it ends with the process, however that ends.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    lock: File,
    /// The folders created for it, the outermost first.
    made: Vec<PathBuf>,
}

impl RunFolder {
    /// Creates the folder if necessary, and locks it.
    ///
    /// # Errors
    /// If another process has locked it ([`TrainError::InUse`]), or it cannot be created or written
    /// to.
    pub fn hold(path: &Path) -> Result<Self> {
        let cannot = |what, error: IoError| {
            let problem = ArgumentProblem::Folder {
                path: path.to_path_buf(),
                what,
                error: error.to_string(),
            };
            TrainError::argument("output_dir", problem)
        };
        let ancestors = path.ancestors();
        let missing = ancestors.take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        let mut made: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        made.reverse();
        fs::create_dir_all(path).map_err(|error| cannot("made", error))?;
        let opened = loop {
            let lock = open(path).map_err(|error| cannot("written into", error))?;
            lock_file(&lock, path)?;
            // Another run that ended may have removed the file since it was opened.
            if is_still_there(&lock, &path.join(LOCK_NAME)) {
                break lock;
            }
        };
        let mut folder = Self {
            path: path.to_path_buf(),
            lock: opened,
            made,
        };
        let written = folder.lock.set_len(0).and_then(|()| {
            let process = format!("{}\n", std::process::id());
            folder.lock.write_all(process.as_bytes())
        });
        written.map_err(|error| cannot("written into", error))?;
        for name in [CONFIG_NAME, METRICS_NAME, EVENTS_NAME, REPORT_NAME] {
            let file = path.join(name);
            if file.exists()
                && let Err(error) = File::options().append(true).open(&file)
            {
                return Err(cannot("written into", in_place(name, &error)));
            }
        }
        Ok(folder)
    }

    /// Checks that no run has locked a folder that another command will write to.
    ///
    /// # Errors
    /// [`TrainError::InUse`] if one has.
    pub fn check_not_in_use(path: &Path) -> Result<()> {
        match File::open(path.join(LOCK_NAME)) {
            Ok(lock) => lock_file(&lock, path),
            // Nothing is locked there.
            Err(_) => Ok(()),
        }
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // While the lock is held: a process that opens the file now finds out that it is gone. On
        // systems that do not remove open files, it stays and does no harm.
        fs::remove_file(self.path.join(LOCK_NAME)).ok();
        for folder in self.made.iter().rev() {
            // Those that got no files, because the run did not start.
            fs::remove_dir(folder).ok();
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path.join(LOCK_NAME))
}

fn in_place(name: &str, error: &IoError) -> IoError {
    IoError::new(error.kind(), format!("{name} in it: {error}"))
}

fn lock_file(lock: &File, path: &Path) -> Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            // Some systems do not let others read a locked file.
            let read = (&mut &*lock).read_to_string(&mut process);
            let process = process.trim();
            let known = read.is_ok() && !process.is_empty();
            Err(TrainError::InUse {
                path: path.to_path_buf(),
                process: if known { process } else { "unknown" }.to_string(),
            })
        }
        Err(TryLockError::Error(error)) => {
            let path = path.display();
            tracing::warn!("{path} cannot be locked against other runs: {error}");
            Ok(())
        }
    }
}

#[cfg(unix)]
fn is_still_there(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (held, named) = (lock.metadata(), fs::metadata(path));
    matches!((held.map(identity), named.map(identity)), (Ok(held), Ok(named)) if held == named)
}

#[cfg(not(unix))]
fn is_still_there(_lock: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_by_every_name_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("runs/out");
        let held = RunFolder::hold(&out).unwrap();
        let process = std::process::id();
        for name in [out.clone(), dir.path().join("runs/../runs/out")] {
            let error = RunFolder::hold(&name).unwrap_err().to_string();
            let said = format!("is in use by another run (pid {process})");
            assert!(error.contains(&said), "{error}");
            assert!(RunFolder::check_not_in_use(&name).is_err());
        }
        drop(held);
        // The run did not start, and nothing of it remains.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        // The remains of a killed run block nobody.
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join(LOCK_NAME), "12345\n").unwrap();
        RunFolder::check_not_in_use(&out).unwrap();
        let held = RunFolder::hold(&out).unwrap();
        fs::write(out.join("adapter"), "").unwrap();
        drop(held);
        let left = fs::read_dir(&out).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["adapter"]);
    }

    #[test]
    fn a_folder_that_takes_no_files_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for out in [file.clone(), file.join("out")] {
            let error = RunFolder::hold(&out).unwrap_err().to_string();
            let said = format!("training.output_dir is {}, which cannot", out.display());
            assert!(error.starts_with(&said), "{error}");
        }
        fs::create_dir(dir.path().join(METRICS_NAME)).unwrap();
        let error = RunFolder::hold(dir.path()).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl in it: "), "{error}");
    }
}
