//! A memory-mapped file.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{ModelError, Result};

/// A memory-mapped file; its bytes are read from the disk when they are used.
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
        // SAFETY: the map is only read. Truncating the file meanwhile would stop the process, as
        // with every program that maps weights; this crate replaces files and never truncates one.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(&path))?;
        Ok(Self { path, map })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the memory of values that were copied, so that the file does not take memory beside
    /// the copy.
    pub fn forget(&self, start: usize, end: usize) {
        #[cfg(unix)]
        // SAFETY: the map is of a file and never written to: its pages can be read again from the
        // file.
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
