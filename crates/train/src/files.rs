//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Result, TrainError};

/// Writes a file under a temporary name beside it, then renames it.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // The error below says what matters; what is left over is only tidied away.
        fs::remove_file(&temporary).ok();
        TrainError::io(path)(source)
    })
}

/// Fills a folder under a temporary name beside it, then renames it. Where the folder is there
/// already, its files are replaced one by one and others in it stay.
pub(crate) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = temporary(path);
    let fill_and_rename = || {
        if temporary.exists() {
            // Left behind by a run that was killed.
            fs::remove_dir_all(&temporary).map_err(TrainError::io(&temporary))?;
        }
        fs::create_dir_all(&temporary).map_err(TrainError::io(&temporary))?;
        fill(&temporary)?;
        match path.exists() {
            true => move_over(&temporary, path),
            false => fs::rename(&temporary, path),
        }
        .map_err(TrainError::io(path))
    };
    let result = fill_and_rename();
    if result.is_err() {
        fs::remove_dir_all(&temporary).ok();
    }
    result
}

/// Moves everything in a folder into another.
fn move_over(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => move_over(&entry.path(), &target)?,
            false => fs::rename(entry.path(), target)?,
        }
    }
    fs::remove_dir(from)
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_replaces_files_and_keeps_strangers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint-1");
        let fill = |text: &'static str| {
            move |folder: &Path| {
                fs::create_dir(folder.join("sub")).unwrap();
                fs::write(folder.join("sub/a"), text).unwrap();
                Ok(())
            }
        };
        write_folder(&path, fill("old")).unwrap();
        fs::write(path.join("mine"), "kept").unwrap();
        write_folder(&path, fill("new")).unwrap();
        assert_eq!(fs::read_to_string(path.join("sub/a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path.join("mine")).unwrap(), "kept");

        let failing = |folder: &Path| {
            fs::write(folder.join("half"), "").unwrap();
            Err(TrainError::Device("no".into()))
        };
        assert!(write_folder(&dir.path().join("checkpoint-2"), failing).is_err());
        write_atomically(&dir.path().join("config.toml"), b"a = 1").unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["checkpoint-1", "config.toml"]);
        let error = write_atomically(Path::new("/nowhere/config.toml"), b"").unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/config.toml: "),
            "{error}"
        );
    }
}
