//! Files and folders that are complete or absent, whenever the process or the machine stops.

use std::fs::{self, File};
use std::io::Result as IoResult;
use std::path::{Path, PathBuf};

use burn_peft_files::atomic::{self, sync_folder};

use crate::error::{Result, TrainError};

/// Writes a file completely or not at all.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    atomic::write(path, content).map_err(TrainError::io(path))
}

/// Fills a folder under a temporary name beside it, flushes everything to the disk, then renames
/// it. An existing folder is replaced; files of it that `fill` does not write are moved over.
///
/// If the process is killed, the old folder or the new one remains; [`tidy`] cleans up temporary
/// names.
pub(crate) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = aside(path, TEMPORARY);
    let fill_and_rename = || {
        remove(&temporary).map_err(TrainError::io(&temporary))?;
        fs::create_dir_all(&temporary).map_err(TrainError::io(&temporary))?;
        fill(&temporary)?;
        let publish = || {
            sync_tree(&temporary)?;
            let old = aside(path, OLD);
            if is_there(path) {
                remove(&old)?;
                fs::rename(path, &old)?;
            }
            fs::rename(&temporary, path)?;
            sync_folder(parent(path))?;
            move_rest(&old, path)
        };
        publish().map_err(TrainError::io(path))
    };
    let result = fill_and_rename();
    if result.is_err() {
        fs::remove_dir_all(&temporary).ok();
    }
    result
}

/// Removes a folder at once: if the process is killed halfway, [`tidy`] removes the rest.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    let temporary = aside(path, TEMPORARY);
    let rename_and_remove = || {
        remove(&temporary)?;
        fs::rename(path, &temporary)?;
        remove(&temporary)
    };
    rename_and_remove().map_err(TrainError::io(path))
}

/// Cleans up after killed runs in `dir`. Incomplete files are removed. Incomplete folders called
/// `prefix…` are removed, and a replaced folder is restored if its successor does not exist.
pub(crate) fn tidy(dir: &Path, prefix: &str) -> Result<()> {
    let tidy = || -> IoResult<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(atomic::PREFIX) && path.is_file() {
                fs::remove_file(&path)?;
                continue;
            }
            let Some(name) = name
                .strip_prefix('.')
                .filter(|name| name.starts_with(prefix))
            else {
                continue;
            };
            if name.ends_with(TEMPORARY) {
                remove(&path)?;
            } else if let Some(name) = name.strip_suffix(OLD) {
                let target = dir.join(name);
                if target.exists() {
                    move_rest(&path, &target)?;
                } else {
                    fs::rename(&path, target)?;
                }
            }
        }
        Ok(())
    };
    tidy().map_err(TrainError::io(dir))
}

const TEMPORARY: &str = ".tmp";
const OLD: &str = ".old";

/// Moves what the folder `to` lacks into it, and removes `from` with the rest.
fn move_rest(from: &Path, to: &Path) -> IoResult<()> {
    if !is_there(from) {
        return Ok(());
    }
    if !from.symlink_metadata()?.is_dir() {
        // A file, or a link, with the folder's name.
        let name = to.file_name().unwrap_or_default();
        return fs::rename(from, to.join(name));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match (target.exists(), entry.file_type()?.is_dir()) {
            (false, _) => fs::rename(entry.path(), target)?,
            (true, true) => move_rest(&entry.path(), &target)?,
            (true, false) => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir(from)
}

fn remove(path: &Path) -> IoResult<()> {
    match path.symlink_metadata() {
        Ok(entry) if entry.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Whether anything has this name, including a dangling link.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Flushes all files of a folder, and the folder, to the disk.
fn sync_tree(folder: &Path) -> IoResult<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows flushes only files that are open for writing.
            File::options().write(true).open(&path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}

fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn aside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{suffix}"))
}

/// Everything in a folder, relative to it; each folder comes after its contents.
pub(crate) fn entries_of(folder: &Path) -> Result<Vec<PathBuf>> {
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
    let mut entries = Vec::new();
    list(folder, Path::new(""), &mut entries).map_err(TrainError::io(folder))?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

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
        fs::write(path.join("sub/mine"), "kept").unwrap();
        write_folder(&path, fill("new")).unwrap();
        assert_eq!(fs::read_to_string(path.join("sub/a")).unwrap(), "new");
        assert_eq!(names(&path), ["mine", "sub"]);
        assert_eq!(names(&path.join("sub")), ["a", "mine"]);

        let path = dir.path().join("checkpoint-3");
        fs::write(&path, "mine").unwrap();
        write_folder(&path, fill("new")).unwrap();
        assert_eq!(names(&path), ["checkpoint-3", "sub"]);
        remove_folder(&path).unwrap();
        let path = dir.path().join("checkpoint-1");

        let failing = |folder: &Path| {
            fs::write(folder.join("half"), "").unwrap();
            Err(TrainError::Device("no".into()))
        };
        assert!(write_folder(&dir.path().join("checkpoint-2"), failing).is_err());
        write_atomically(&dir.path().join("config.toml"), b"a = 1").unwrap();
        assert_eq!(names(dir.path()), ["checkpoint-1", "config.toml"]);
        let error = write_atomically(Path::new("/nowhere/config.toml"), b"").unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/config.toml: "),
            "{error}"
        );
        remove_folder(&path).unwrap();
        assert_eq!(names(dir.path()), ["config.toml"]);
    }

    #[test]
    fn what_a_kill_left_is_put_right() {
        let dir = tempfile::tempdir().unwrap();
        let make = |folder: &str, file: &str| {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join(file), folder).unwrap();
        };
        // Killed while writing the fourth, between the renames of the second, and after them of
        // the third.
        make("checkpoint-1", "a");
        make(".checkpoint-2.old", "a");
        make("checkpoint-3", "a");
        make(".checkpoint-3.old", "a");
        make(".checkpoint-3.old", "mine");
        make(".checkpoint-4.tmp", "a");
        make(".other.tmp", "a");
        fs::write(dir.path().join(".tmp-x1Y2z3"), "half a model").unwrap();
        tidy(dir.path(), "checkpoint-").unwrap();
        assert_eq!(
            names(dir.path()),
            [".other.tmp", "checkpoint-1", "checkpoint-2", "checkpoint-3"]
        );
        assert_eq!(names(&dir.path().join("checkpoint-3")), ["a", "mine"]);
        let a = dir.path().join("checkpoint-3/a");
        assert_eq!(fs::read_to_string(a).unwrap(), "checkpoint-3");
    }
}
