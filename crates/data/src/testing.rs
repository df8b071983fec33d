//! What the tests of this crate share.

use tempfile::TempDir;

use crate::tokenizer::bpe::tiny;
use crate::{DataConfig, DataSet, Limits, Result, Task};

/// The limits of a small model for the tokenizer [`tiny`].
pub const LIMITS: Limits = Limits {
    max_positions: 16,
    positions_key: "n_positions",
    has_last_position: true,
    adapter_positions: 0,
    vocab_size: 270,
};

/// A folder with a file of these rows, `a.jsonl`, and a configuration that reads it, with its cache
/// in the same folder.
pub fn file_of(rows: &str) -> (TempDir, DataConfig) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, rows).unwrap();
    let mut config = DataConfig::new(path.to_str().unwrap());
    config.cache_dir = Some(dir.path().join("cache"));
    (dir, config)
}

/// The data set that a task makes from a file.
pub fn load(config: &DataConfig, task: &dyn Task) -> Result<DataSet> {
    DataSet::load_with(config, Some(&tiny()), LIMITS, 42, &|_| Ok(None), task)
}
