//! Reads whole text files.

use std::fs;
use std::path::Path;

use crate::FileError;
use crate::foreign::{foreign_to_text, without_mark};

/// Returns the text of a file, without its byte order mark.
///
/// # Errors
/// If the file cannot be read or is not UTF-8. If its kind can be recognised, the error names it.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, FileError> {
    let path = path.as_ref();
    let (path, place) = (path.to_path_buf(), path);
    let mut bytes = match fs::read(place) {
        Ok(bytes) => bytes,
        Err(source) => return Err(FileError::Io { path, source }),
    };
    bytes.drain(..bytes.len() - without_mark(&bytes).len());
    if let Some(kind) = foreign_to_text(&bytes) {
        return Err(FileError::Foreign { path, kind });
    }
    String::from_utf8(bytes).map_err(|error| {
        let problem = error.utf8_error();
        FileError::NotUtf8 { path, problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_without_its_mark_and_other_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"\xef\xbb\xbf{}").unwrap(), "{}");
        assert_eq!(read(b"").unwrap(), "");
        let error = read(b"version https://git-lfs.github.com/spec/v1\n").unwrap_err();
        assert!(
            error.contains("config.json is a Git LFS pointer"),
            "{error}"
        );
        let error = read(b"caf\xe9").unwrap_err();
        assert!(error.contains("is not UTF-8 text"), "{error}");
        assert!(
            read_text(dir.path().join("none"))
                .unwrap_err()
                .is_not_found()
        );
    }
}
