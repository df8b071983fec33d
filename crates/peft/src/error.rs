//! The errors of this crate: what was wrong, with which value, and the way out.

use std::path::{Path, PathBuf};

use burn_peft_files::FileError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, PeftError>;

/// What can go wrong with adapters, their configurations and their files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeftError {
    /// A configuration that cannot be used, with the reason.
    #[error("{0}")]
    Config(String),
    /// A choice of layers that cannot be used, with the reason.
    #[error("{0}")]
    Target(String),
    /// An adapter name or state that does not allow what was asked.
    #[error("{0}")]
    Adapter(String),
    /// A file that does not hold what it should, with the reason.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl From<FileError> for PeftError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::Io { path, source },
            FileError::Content { path, problem } => Self::File {
                path,
                reason: problem,
            },
        }
    }
}

impl PeftError {
    /// What is wrong with the content of a file or folder.
    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    /// Why a file or folder could not be read or written.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}
