//! Saving conversations as rows of a training file.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The extensions of files with one JSON row on each line.
const ENDINGS: [&str; 2] = ["jsonl", "ndjson"];

/// Appends a conversation to a file as a row with `messages`; returns the file's number of rows.
pub fn append(file: &Path, messages: &[Value]) -> Result<usize> {
    let name = file.display();
    let ending = file.extension().unwrap_or_default();
    ensure!(
        ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known)),
        "{name}: a conversation is saved as a line of JSON, which is read from a file whose name ends \
         in .jsonl: /save {name}.jsonl"
    );
    // Something other than a file may never end.
    if let Ok(found) = fs::metadata(file) {
        ensure!(found.is_file(), "{name} is not a file");
    }
    let mut text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
    };
    if let Some(last) = text.lines().rfind(|line| !line.trim().is_empty()) {
        let row: Option<Value> = serde_json::from_str(last.trim_start_matches('\u{feff}')).ok();
        ensure!(
            row.is_some_and(|row| row.get("messages").is_some()),
            "{name} has rows of another kind: its last has no messages; name another file"
        );
    }
    let mut row = format!("{}\n", json!({ "messages": messages }));
    if !text.is_empty() && !text.ends_with('\n') {
        row.insert(0, '\n');
    }
    // In a single write at the end of the file: another chat may save to the same file.
    let opened = fs::File::options().append(true).create(true).open(file);
    let written = opened.and_then(|mut out| out.write_all(row.as_bytes()));
    written.with_context(|| format!("cannot write {name}"))?;
    text += &row;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).count())
}

/// A path as typed: `~` stands for the home folder, as in a shell.
pub fn path(typed: &str) -> PathBuf {
    let home = typed.strip_prefix("~/").zip(std::env::home_dir());
    match home {
        Some((rest, home)) => home.join(rest),
        None => typed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_appended_and_other_files_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        let messages = [json!({ "role": "user", "content": "é" })];
        assert_eq!(append(&file, &messages).unwrap(), 1);
        assert_eq!(append(&file, &messages).unwrap(), 2);
        let row = "{\"messages\":[{\"role\":\"user\",\"content\":\"é\"}]}\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), row.repeat(2));
        // Someone else's row, without a line end.
        fs::write(&file, row.trim_end()).unwrap();
        assert_eq!(append(&file, &messages).unwrap(), 2);
        assert_eq!(fs::read_to_string(&file).unwrap(), row.repeat(2));

        for (name, content, said) in [
            ("a.toml", "", "a.toml.jsonl"),
            ("b.jsonl", "{\"text\": \"a\"}\n", "rows of another kind"),
            ("c.jsonl", "no JSON", "rows of another kind"),
            ("none/d.jsonl", "", "cannot write"),
        ] {
            let file = dir.path().join(name);
            if !content.is_empty() {
                fs::write(&file, content).unwrap();
            }
            let error = format!("{:#}", append(&file, &messages).unwrap_err());
            assert!(error.contains(said), "{error}");
            let after = fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(after, content);
        }
    }
}
