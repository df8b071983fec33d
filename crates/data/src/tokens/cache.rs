//! The cache of tokenised files: what was tokenised once is memory-mapped the next time.

use crate::error::{DataError, Result};
use crate::tokens::store::VERSION;
use blake3::Hasher;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folder of tokenised files: `BURN_PEFT_CACHE`, else `burn-peft` in `XDG_CACHE_HOME` or
/// `~/.cache`, else in the folder for temporary files.
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

/// A hash over everything that determines the tokens.
pub(crate) struct Key(Hasher);

impl Key {
    pub fn new() -> Self {
        let mut key = Self(Hasher::new());
        key.add(&VERSION.to_le_bytes());
        key
    }

    /// Adds a part; its length goes first, so that no two sequences of parts hash alike.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds a file: its name, whose extension determines how it is read, and a hash of its content.
    /// The modification time would not do: a file can be replaced within a tick of the clock, or
    /// keep its time (`cp -p`).
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let mut content = Hasher::new();
        let file = File::open(path).map_err(DataError::io(path))?;
        content.update_reader(file).map_err(DataError::io(path))?;
        self.add(path.file_name().unwrap_or_default().as_encoded_bytes());
        self.add(content.finalize().as_bytes());
        Ok(())
    }

    /// The cache file for this key.
    pub fn path(self, folder: &Path) -> PathBuf {
        let hash = self.0.finalize().to_hex();
        folder.join(format!("{}.tokens", &hash[..32]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaced_by_one_of_its_length_and_time_has_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let key = |content: &str| {
            std::fs::write(&path, content).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            let mut key = Key::new();
            key.add_file(&path).unwrap();
            key.path(dir.path())
        };
        let [a, b, again] = ["aaaa", "bbbb", "aaaa"].map(key);
        assert_ne!(a, b);
        assert_eq!(a, again);
    }
}
