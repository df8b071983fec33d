//! What can go wrong between a file and a batch.

mod file;
mod row;
mod setting;
mod template;
mod tokenizer;

pub use file::{FILE_KINDS, FileProblem};
pub use row::RowProblem;
pub use setting::{EmptyProblem, SettingProblem, WantedColumn};
pub use template::TemplateProblem;
pub use tokenizer::TokenizerProblem;

use crate::tokens::example::Limits;
use burn_peft_files::FileError;
use std::path::PathBuf;

/// A `Result` with [`DataError`].
pub type Result<T> = std::result::Result<T, DataError>;

/// What can go wrong between a file and a batch. Each message names the place, the value and the
/// way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A data file that does not exist.
    #[error(
        "there is no data file {0}; give the path of a file ({FILE_KINDS}) or of a folder of such \
         files, or a data set on the Hub as organisation/name:split"
    )]
    NotFound(String),

    /// A file that cannot be read as rows at all.
    #[error("{file} {problem}")]
    File {
        /// The file as the user wrote it.
        file: String,
        /// What is wrong with it; continues a sentence that begins with the file's name.
        problem: FileProblem,
    },

    /// A row that cannot be used.
    #[error("{place} {problem}")]
    Row {
        /// File and row, e.g. `reviews.jsonl line 17`.
        place: String,
        /// What is wrong with it; continues a sentence that begins with the place.
        problem: RowProblem,
    },

    /// Columns that match no known shape.
    #[error(
        "{file} has the columns {}, which is not a known shape; known: {known}; {hint}",
        columns.join(", ")
    )]
    UnknownShape {
        /// The file as the user wrote it.
        file: String,
        /// The columns of its first row.
        columns: Vec<String>,
        /// The columns that would be known.
        known: &'static str,
        /// The way out.
        hint: String,
    },

    /// A row with more tokens than the model has positions, where no key says to cut it.
    #[error(
        "{place} has {length} tokens, more than {}; set data.max_length to {} or less to cut such \
         rows", limits.positions(), limits.max_positions
    )]
    TooLong {
        /// File and row.
        place: String,
        /// Its number of tokens.
        length: usize,
        /// The most that the model takes.
        limits: Limits,
    },

    /// A token that the model has no embedding for.
    #[error(
        "{place} has the token id {id}, which is not below the model's vocab_size {vocab_size}; \
         does the tokenizer (or the file of token ids) belong to this model?"
    )]
    TokenId {
        /// File and row.
        place: String,
        /// The token id.
        id: i64,
        /// The model's number of embeddings.
        vocab_size: usize,
    },

    /// No row is left to train on.
    #[error("{file} has no usable row: {problem}")]
    Empty {
        /// The file as the user wrote it.
        file: String,
        /// Why nothing is left.
        problem: EmptyProblem,
    },

    /// An invalid setting of the `[data]` table, or of another table if the key names one.
    #[error("{}{key} {problem}", if key.contains('.') { "" } else { "data." })]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong with it; continues a sentence that begins with the key.
        problem: SettingProblem,
    },

    /// An invalid setting of an entry of the list `data.train` or `data.validation`.
    #[error("data.{list}[{index}].{key} {problem}")]
    Set {
        /// The list: `train` or `validation`.
        list: &'static str,
        /// The entry, counted from 0.
        index: usize,
        /// The key.
        key: &'static str,
        /// What is wrong with it; continues a sentence that begins with the key.
        problem: Box<SettingProblem>,
    },

    /// Tokenised rows that could not be written to the cache.
    #[error(
        "cannot write the tokenised data {}: {source}; name a folder with room in data.cache_dir \
         or BURN_PEFT_CACHE", path.display()
    )]
    Cache {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A data set on the Hub that could not be fetched.
    #[error("{0}")]
    Hub(String),

    /// A batch size of 0.
    #[error("the batch size is 0; it must be 1 or more")]
    BatchSize,

    /// A tokenizer that cannot be loaded, used, trained or saved.
    #[error("tokenizer {name}: {problem}")]
    Tokenizer {
        /// Its folder or file.
        name: String,
        /// What is wrong with it.
        problem: TokenizerProblem,
    },
}

impl DataError {
    /// A row that a [`Task`](crate::Task) cannot use; `problem` continues a sentence that begins
    /// with `place`.
    pub fn row(place: &str, problem: impl Into<String>) -> Self {
        Self::Row {
            place: place.into(),
            problem: RowProblem::Task(problem.into()),
        }
    }

    /// An error about a data file.
    pub(crate) fn file(file: &str, problem: impl Into<FileProblem>) -> Self {
        let (file, problem) = (file.into(), problem.into());
        Self::File { file, problem }
    }

    /// An error about a setting.
    pub(crate) fn setting(key: &'static str, problem: SettingProblem) -> Self {
        Self::Setting { key, problem }
    }

    /// Adds the file's name to an error of the operating system.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl From<FileError> for DataError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::Io { path, source },
            FileError::Foreign { path, kind } => Self::file(&path.display().to_string(), kind),
            FileError::NotUtf8 { path, problem } => {
                let (line, error) = (None, problem);
                let problem = FileProblem::Utf8 { line, error };
                Self::file(&path.display().to_string(), problem)
            }
        }
    }
}
