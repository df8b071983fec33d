//! A file mapped into memory.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{ModelError, Result};

/// A file mapped into memory; its bytes come from the disk when they are used.
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    map: Mmap,
}

impl Mapped {
    /// Maps a file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::open(&path).map_err(ModelError::io(&path))?;
        // SAFETY: the map is only read. Who shortens the file meanwhile stops the process, as
        // with every program that maps weights; this crate replaces files, it never shortens one.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(&path))?;
        Ok(Self { path, map })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the memory of values that were copied back, lest the file lie there beside the copy.
    pub fn forget(&self, start: usize, end: usize) {
        #[cfg(unix)]
        // SAFETY: the map is of a file and never written to: what is read again comes from it.
        let _advice_only = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map.unchecked_advise_range(advice, start, end - start)
        };
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
