//! Rows that are not in a file: from a database, another program, or memory.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use tempfile::TempDir;

use crate::config::DataConfig;
use crate::error::{DataError, Result, SettingProblem};
use crate::source::slice::SlicedPath;
use crate::tokenizer::Tokenizer;
use crate::tokens::example::Limits;
use crate::tokens::examples::Examples;
use crate::tokens::task::Task;

impl Examples {
    /// The examples of rows that are not in a file, in their order. A row is anything that serde
    /// serialises as an object with the columns that a row of a file would have; `name` stands for
    /// the rows in errors.
    ///
    /// The rows are written to a file in the system's folder for temporary files, with one of them
    /// in memory at a time, and are then treated like any file: tokens are found again in the
    /// cache, and a run on them resumes exactly. All of them are taken: `max_samples` and
    /// `validation_split` of the table are for its own files.
    ///
    /// # Errors
    /// The first error of the rows; otherwise as for [`load_with`](Self::load_with).
    pub fn of_rows<R: Serialize>(
        name: &str,
        rows: impl IntoIterator<Item = Result<R>>,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        task: &dyn Task,
    ) -> Result<Self> {
        // Not in the cache, where nobody would remove what a killed process leaves.
        let folder = own_folder()?;
        // The name is the same each time, since it is part of the cache's key.
        let path = folder.path().join("rows.jsonl");
        let cannot = |source| DataError::io(&path)(source);
        let mut file = BufWriter::new(std::fs::File::create(&path).map_err(cannot)?);
        for row in rows {
            let row = serde_json::to_string(&row?).map_err(|error| {
                DataError::setting("train", SettingProblem::NoJson(error.to_string()))
            })?;
            writeln!(file, "{row}").map_err(cannot)?;
        }
        file.flush().map_err(cannot)?;
        // `find` is only called for a name that is not a path.
        let mut spec = if Path::new(name).exists() {
            format!("the rows of {name}")
        } else {
            name.to_string()
        };
        let shown = spec.clone();
        // Brackets belong to the name: all rows are wanted.
        if !SlicedPath::new(&spec).is_whole() {
            spec += "[:]";
        }
        let find = |_: &str| Ok(Some(vec![path.clone()]));
        let mut examples = Self::load_with(&spec, config, tokenizer, limits, &find, task)?;
        examples.file = shown;
        Ok(examples)
    }
}

/// A new folder for temporary files, which only its owner can read.
fn own_folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("peft-rows-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder
        .tempdir()
        .map_err(DataError::io(&std::env::temp_dir()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tokenizer::bpe::tiny;
    use crate::tokens::lm::Lm;

    const LIMITS: Limits = Limits {
        max_positions: 64,
        positions_key: "n_positions",
        has_last_position: true,
        adapter_positions: 0,
        vocab_size: 270,
    };

    fn examples(rows: Vec<Value>, cache: &Path) -> Result<Examples> {
        named("stories", rows, cache)
    }

    fn named(name: &str, rows: Vec<Value>, cache: &Path) -> Result<Examples> {
        let mut config = DataConfig::new("stories");
        config.cache_dir = Some(cache.to_path_buf());
        let rows = rows.into_iter().map(Ok);
        Examples::of_rows(name, rows, &config, Some(&tiny()), LIMITS, &Lm)
    }

    #[test]
    fn a_name_is_no_slice() {
        let dir = tempfile::tempdir().unwrap();
        let rows = vec![json!({"text": "ab"}), json!({"text": "cd"})];
        for name in [
            "rows[:1]",
            "rows[1:]",
            "rows[oops:]",
            "rows.json:train",
            "a/b@c:d/e",
        ] {
            let found = named(name, rows.clone(), dir.path()).unwrap();
            assert_eq!((found.len(), found.file.as_str()), (2, name));
        }
    }

    #[test]
    fn rows_are_those_of_a_file_with_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let rows = vec![
            json!({"prompt": "a", "completion": "b"}),
            json!({"prompt": "c\n", "completion": ""}),
        ];
        let path = dir.path().join("a.jsonl");
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let mut config = DataConfig::new("");
        config.cache_dir = Some(dir.path().join("cache"));
        let of_file =
            Examples::load(path.to_str().unwrap(), &config, Some(&tiny()), LIMITS).unwrap();
        let cache = dir.path().join("other");
        let found = examples(rows.clone(), &cache).unwrap();
        assert_eq!(found.hash(), of_file.hash());
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            of_file.iter().collect::<Vec<_>>()
        );
        assert_eq!(found.file, "stories");
        // The rows are tokenised once; the rows themselves are not kept.
        let again = examples(rows, &cache).unwrap();
        assert_eq!(again.cache_file, found.cache_file);
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_rows_and_those_of_a_row_come_through() {
        let dir = tempfile::tempdir().unwrap();
        let rows = vec![json!({"text": "a"}), json!({"text": 3})];
        let error = examples(rows, dir.path()).unwrap_err().to_string();
        assert!(error.contains("stories line 2"), "{error}");
        let error = examples(vec![json!("text")], dir.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("stories line 1"), "{error}");
        let error = examples(Vec::new(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("stories"), "{error}");
        let failing = [Err::<Value, _>(DataError::NotFound("a table".into()))];
        let config = DataConfig::new("stories");
        let error = Examples::of_rows("stories", failing, &config, Some(&tiny()), LIMITS, &Lm);
        assert!(error.unwrap_err().to_string().contains("a table"));
    }
}
