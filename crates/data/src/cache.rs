//! The folder of tokenised files: what was tokenised once is mapped the next time.

use crate::error::{DataError, Result};
use crate::store::VERSION;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of tokenised files: `BURN_PEFT_CACHE`, else `burn-peft` in `XDG_CACHE_HOME` or in
/// `~/.cache`, else in the folder of temporary files.
pub fn default_cache_dir() -> PathBuf {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let user = || Some(std::env::home_dir()?.join(".cache"));
    let shared = || var("XDG_CACHE_HOME").or_else(user);
    var("BURN_PEFT_CACHE").unwrap_or_else(|| {
        let folder = shared().unwrap_or_else(std::env::temp_dir);
        folder.join("burn-peft")
    })
}

/// A hash over all that decides what the tokens are.
pub(crate) struct Key(Sha256);

impl Key {
    pub fn new() -> Self {
        let mut key = Self(Sha256::new());
        key.add(&VERSION.to_le_bytes());
        key
    }

    /// Adds one thing; its length goes before it, so that two never read as another two.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds a file: its full path, its size and the time of its last change.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let full = fs::canonicalize(path).map_err(DataError::io(path))?;
        let metadata = fs::metadata(&full).map_err(DataError::io(path))?;
        let changed = metadata.modified().map_err(DataError::io(path))?;
        let changed = changed.duration_since(std::time::UNIX_EPOCH);
        self.add(full.as_os_str().as_encoded_bytes());
        self.add(&metadata.len().to_le_bytes());
        self.add(&changed.unwrap_or_default().as_nanos().to_le_bytes());
        Ok(())
    }

    /// The file of this key.
    pub fn path(self, folder: &Path) -> PathBuf {
        let hash = self.0.finalize();
        let name: String = hash[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        folder.join(format!("{name}.tokens"))
    }
}
