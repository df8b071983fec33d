//! What can be wrong with a file.

use std::io;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;

/// What can be wrong with a file; the error names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system could not read it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is of another kind than its name says.
    #[error("{} {kind}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, as [`foreign`](crate::foreign) says; continues a sentence that begins with
        /// the file's name.
        kind: &'static str,
    },
    /// It is text in another encoding, or not text at all.
    #[error("{} is not UTF-8 text: {problem}; save it as UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Where it is not valid.
        problem: Utf8Error,
    },
}

impl FileError {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::Foreign { path, .. } | Self::NotUtf8 { path, .. } => path,
        }
    }

    /// What is wrong with the file; continues a sentence that begins with its name.
    pub fn problem(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::Foreign { kind, .. } => (*kind).to_string(),
            Self::NotUtf8 { problem, .. } => {
                format!("is not UTF-8 text: {problem}; save it as UTF-8")
            }
        }
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
