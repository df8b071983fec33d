//! The single output file of a command: complete under its name, or absent.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn_peft_files::atomic::sync_folder;
use tempfile::TempDir;

use crate::interrupt::Unfinished;

/// A file in a temporary folder beside its destination, which is removed if the command fails or is
/// stopped. If the destination is not a file, such as a device or a pipe, it is written directly.
pub struct OutputFile {
    output: PathBuf,
    /// The destination, with symbolic links resolved.
    target: PathBuf,
    file: PathBuf,
    folder: Option<(TempDir, Unfinished)>,
}

impl OutputFile {
    /// A GGUF file. Checks that it can be written before anything is read.
    pub fn gguf(output: &Path, force: bool) -> Result<Self> {
        let shown = output.display();
        ensure!(
            !output.is_dir(),
            "{shown} is a folder: name a file in it, or give --to safetensors for a folder"
        );
        ensure!(
            output
                .file_name()
                .is_none_or(|name| !name.eq_ignore_ascii_case(".gguf")),
            "{shown} is not a name for a file: put one before .gguf"
        );
        ensure!(
            output
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("gguf")),
            "{shown} does not end in .gguf, by which such files are known"
        );
        ensure!(
            force || !output.exists(),
            "{shown} already exists: choose another --output, or give --force to replace it"
        );
        let place = Self::beside(output)?;
        ensure!(
            place.folder.is_some(),
            "{shown} is not a file, and a GGUF file cannot be written in one pass: name a file"
        );
        Ok(place)
    }

    /// Any file; an existing one is replaced.
    pub fn beside(output: &Path) -> Result<Self> {
        let shown = output.display();
        ensure!(!output.is_dir(), "{shown} is a folder: name a file in it");
        let Some(name) = output.file_name() else {
            bail!("{shown} is not the name of a file");
        };
        let target = behind_links(output);
        if fs::metadata(&target).is_ok_and(|is| !is.is_file()) {
            return Ok(Self {
                output: output.to_path_buf(),
                file: output.to_path_buf(),
                target,
                folder: None,
            });
        }
        let folder = folder_beside(&target)?;
        let unfinished = Unfinished::new(folder.path())?;
        Ok(Self {
            output: output.to_path_buf(),
            target,
            file: folder.path().join(name),
            folder: Some((folder, unfinished)),
        })
    }

    /// Opens the file for writing.
    pub fn create(&self) -> Result<File> {
        let file = match self.folder {
            Some(_) => File::create(&self.file),
            None => OpenOptions::new().write(true).open(&self.file),
        };
        file.with_context(|| format!("cannot write {}", self.output.display()))
    }

    /// Flushes the file to the disk, if it is on one.
    pub fn sync(&self, file: &File) -> std::io::Result<()> {
        match self.folder {
            Some(_) => file.sync_all(),
            None => Ok(()),
        }
    }

    /// The final name of the file.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The path of the file before it is renamed.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Moves the file to its place.
    pub fn keep(self) -> Result<PathBuf> {
        let Some((folder, unfinished)) = self.folder else {
            return Ok(self.output);
        };
        let moved = unfinished.kept(|| {
            let parent = self.target.parent();
            let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            fs::create_dir_all(parent)?;
            // The file's permissions stay the same.
            if let Ok(earlier) = fs::metadata(&self.target) {
                fs::set_permissions(&self.file, earlier.permissions())?;
            }
            fs::rename(&self.file, &self.target)?;
            sync_folder(parent)
        });
        moved.with_context(|| format!("cannot write {}", self.output.display()))?;
        drop(folder);
        Ok(self.output)
    }
}

/// A temporary folder on the disk of `output`, which is removed again.
pub fn folder_beside(output: &Path) -> Result<TempDir> {
    let output = std::path::absolute(output)?;
    let parent = output.ancestors().skip(1).find(|parent| parent.exists());
    let parent = parent.unwrap_or(&output);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".peft-merge-");
    #[cfg(unix)]
    {
        // As for any other folder, not 0700: the process's umask still applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder
        .tempdir_in(parent)
        .with_context(|| format!("cannot write into {}", parent.display()))
}

/// The path that symbolic links lead to, even if nothing exists there yet.
fn behind_links(path: &Path) -> PathBuf {
    let mut found = path.to_path_buf();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&found) else {
            break;
        };
        found = found.parent().unwrap_or(Path::new("")).join(link);
    }
    found
}

/// Rejects an output that is one of the inputs, or one of the files beside the first that belong to
/// the same model. In a folder, GGUF files and subfolders are not read.
pub fn check_input<'a>(output: &Path, inputs: impl Iterator<Item = &'a Path>) -> Result<()> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let Some(place) = real(output) else {
        return Ok(());
    };
    for input in inputs {
        let Some(found) = real(input) else {
            continue;
        };
        let is_part = is_of_same_model(&found, &place);
        ensure!(
            found != place && !is_part,
            "{} is the input itself, choose another --output",
            output.display()
        );
    }
    Ok(())
}

/// Whether two files are parts of one model: `NAME-00001-of-00003.gguf`.
fn is_of_same_model(a: &Path, b: &Path) -> bool {
    let stem = |path: &Path| {
        let name = path.file_stem()?.to_str()?;
        let (start, count) = name.rsplit_once("-of-")?;
        let (start, _) = start.rsplit_once('-')?;
        Some((
            path.parent()?.to_path_buf(),
            start.to_string(),
            count.to_string(),
        ))
    };
    stem(a).is_some() && stem(a) == stem(b)
}
