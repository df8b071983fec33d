//! Checking that the files of a checkpoint are those that the run has written: a power cut, a full
//! disk or an interrupted copy can leave a file short, empty or full of zeros.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use blake3::Hasher;

use crate::checkpoint::files::entries_of;
use crate::error::{Result, ResumeProblem, TrainError};

/// The BLAKE3 hashes of all files in a folder by relative path, in hexadecimal.
pub(crate) fn hashes(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = entries_of(folder)?.into_iter();
    let files = entries.filter(|entry| folder.join(entry).is_file());
    files
        .map(|file| {
            let hash = hash(&folder.join(&file))?;
            Ok((file.to_string_lossy().into_owned(), hash))
        })
        .collect()
}

/// Checks that the files of a folder have these hashes.
///
/// # Errors
/// If one is missing or differs; the error names it.
pub(crate) fn check(folder: &Path, hashes: &BTreeMap<String, String>) -> Result<()> {
    for (name, expected) in hashes {
        let path = folder.join(name);
        let problem = if !path.is_file() {
            ResumeProblem::Missing
        } else if hash(&path)? != *expected {
            let size = std::fs::metadata(&path).map_err(TrainError::io(&path))?;
            ResumeProblem::Changed(size.len())
        } else {
            continue;
        };
        return Err(TrainError::resume(&path, problem));
    }
    Ok(())
}

fn hash(path: &Path) -> Result<String> {
    let mut hasher = Hasher::new();
    let file = File::open(path).map_err(TrainError::io(path))?;
    hasher.update_reader(file).map_err(TrainError::io(path))?;
    Ok(hasher.finalize().to_string())
}
