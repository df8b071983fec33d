//! Where the file is written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn_peft_files::atomic::sync_folder;
use tempfile::TempDir;

use crate::commands::merge::folder_beside;
use crate::interrupt::Unfinished;

/// A file in a folder beside its place, which goes when the command fails or is stopped.
pub struct Place {
    output: PathBuf,
    file: PathBuf,
    folder: TempDir,
    unfinished: Unfinished,
}

impl Place {
    /// A GGUF file's. Whether it can be written is known before anything is read.
    pub fn new(output: &Path, force: bool) -> Result<Self> {
        let shown = output.display();
        ensure!(
            !output.is_dir(),
            "{shown} is a folder: name a file in it, or give --to safetensors for a folder"
        );
        ensure!(
            output
                .file_name()
                .is_none_or(|name| !name.eq_ignore_ascii_case(".gguf")),
            "{shown} is no name for a file: put one before .gguf"
        );
        ensure!(
            output
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("gguf")),
            "{shown} does not end in .gguf, by which such files are known"
        );
        ensure!(
            force || !output.exists(),
            "{shown} is there already: choose another --output, or give --force to replace it"
        );
        Self::beside(output)
    }

    /// Any file's; what is there already is replaced.
    pub fn beside(output: &Path) -> Result<Self> {
        let shown = output.display();
        ensure!(!output.is_dir(), "{shown} is a folder: name a file in it");
        let Some(name) = output.file_name() else {
            bail!("{shown} is no file's name");
        };
        let folder = folder_beside(output)?;
        Ok(Self {
            output: output.to_path_buf(),
            file: folder.path().join(name),
            unfinished: Unfinished::new(folder.path())?,
            folder,
        })
    }

    /// The name that the file is to have.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// Where the file is before it has its name.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Moves the file to its place.
    pub fn keep(self) -> Result<PathBuf> {
        let moved = self.unfinished.kept(|| {
            let parent = self.output.parent();
            let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            fs::create_dir_all(parent)?;
            fs::rename(&self.file, &self.output)?;
            sync_folder(parent)
        });
        moved.with_context(|| format!("cannot write {}", self.output.display()))?;
        drop(self.folder);
        Ok(self.output)
    }
}

/// Refuses an output that is one of the inputs, or one of the files beside the first that belong to
/// the same model. Of a folder no GGUF file is read, nor any folder in it.
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
