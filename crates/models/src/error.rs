//! The errors of this crate: what was wrong, with which value, and the way out.

use std::path::PathBuf;

use burn_peft::PeftError;
use burn_peft_device::DeviceError;
use burn_peft_files::FileError;

use crate::config_error::ConfigError;
use crate::hub::HubError;
use crate::input_error::InputError;
use crate::weights::WeightsError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Why a folder with an `adapter_config.json` and no `config.json` is not a model.
pub(crate) const ADAPTER_FOLDER: &str = "this is an adapter (adapter_config.json), not a model \
     (config.json): give it as the adapter, and the base model it was trained on as the model";

/// What can go wrong with models, their configurations, their files and their inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder with the wrong content, and the reason.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without a file that models have.
    #[error("{}: {}", folder.display(), lacking(file, instead.as_deref()))]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: String,
        /// What is there instead, and the way out.
        instead: Option<String>,
    },
    /// A folder that holds an adapter but no model.
    #[error("{}: {ADAPTER_FOLDER}", folder.display())]
    Adapter {
        /// The folder.
        folder: PathBuf,
    },
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A device without enough memory for the model.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A model configuration that cannot be used.
    #[error("{}{problem}", path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default())]
    Config {
        /// The file, if it comes from one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        problem: ConfigError,
    },
    /// A file that could not be fetched from the Hugging Face Hub.
    #[error(transparent)]
    Hub(Box<HubError>),
    /// Weights that do not fit the model, or cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An input that the model cannot take.
    #[error(transparent)]
    Input(#[from] InputError),
    /// An error about adapters.
    #[error(transparent)]
    Peft(#[from] PeftError),
}

impl ModelError {
    /// A [`ModelError::File`].
    pub fn file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.into(),
        }
    }

    /// A closure for `map_err` that makes a [`ModelError::Config`] about the file `path`.
    pub(crate) fn config(path: impl Into<PathBuf>) -> impl FnOnce(ConfigError) -> Self {
        let path = Some(path.into());
        |problem| Self::Config { path, problem }
    }

    /// A closure for `map_err` that makes a [`ModelError::Io`] about `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}

fn lacking(file: &str, instead: Option<&str>) -> String {
    match instead {
        Some(instead) => format!("has no {file}, only {instead}"),
        None => format!("the folder has no {file}"),
    }
}

impl From<ConfigError> for ModelError {
    fn from(problem: ConfigError) -> Self {
        Self::Config {
            path: None,
            problem,
        }
    }
}

impl From<HubError> for ModelError {
    fn from(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}

impl From<FileError> for ModelError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::Io { path, source },
            other => Self::File {
                path: other.path().to_path_buf(),
                reason: other.problem(),
            },
        }
    }
}
