//! The errors of this crate: what was wrong, with which value, and the way out.

mod argument;
mod config;
mod resume;

pub use argument::ArgumentProblem;
pub use config::ConfigProblem;
pub use resume::{OptimizerProblem, ResumeProblem};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::DatasetError;
use burn::train::TrainingError;
use burn_peft::PeftError;
use burn_peft_data::DataError;
use burn_peft_files::FileError;
use burn_peft_models::ModelError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, TrainError>;

/// What can go wrong between a training file and a trained adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A training file that cannot be used, with the place and the reason.
    #[error("{place}: {problem}")]
    Config {
        /// The file, or the `--set` that was wrong.
        place: String,
        /// What is wrong with it.
        problem: ConfigProblem,
    },

    /// An invalid value of the `[training]` table, or one that contradicts another.
    #[error("training.{key} {problem}")]
    Argument {
        /// The key.
        key: &'static str,
        /// What is wrong with it; continues a sentence that begins with the key.
        problem: ArgumentProblem,
    },

    /// An output folder that another process is writing to.
    #[error(
        "{} is in use by another run (pid {process}): wait for its end, or name another folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The id of the other process.
        process: String,
    },

    /// A loss or gradient that is no longer a number.
    #[error(
        "the {what} is {value} at step {step}, with rows {rows} of {file}; {saved}. \
         A smaller training.learning_rate is the usual way out"
    )]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The optimizer step, counted from 1.
        step: usize,
        /// The row numbers of the step's examples in their file.
        rows: String,
        /// Their file.
        file: String,
        /// What had been saved before.
        saved: String,
    },

    /// A checkpoint that a run cannot resume from.
    #[error("cannot resume from {}: {problem}", checkpoint.display())]
    Resume {
        /// The checkpoint, or the file of it that is wrong.
        checkpoint: PathBuf,
        /// The reason.
        problem: ResumeProblem,
    },

    /// An optimizer's state that cannot be written or used.
    #[error("{}: the optimizer's state cannot be used: {problem}", path.display())]
    Optimizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: OptimizerProblem,
    },

    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A text file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),

    /// An error of the data.
    #[error(transparent)]
    Data(#[from] DataError),

    /// An error of the model.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// A batch that could not be made.
    #[error(transparent)]
    Batch(#[from] DatasetError),

    /// An error of the adapters.
    #[error(transparent)]
    Peft(#[from] PeftError),

    /// An error of Burn's training machinery.
    #[error("{0}")]
    Burn(Arc<TrainingError>),

    /// Burn's dashboard cannot be shown.
    #[error("the dashboard (--tui) {0}")]
    Dashboard(DashboardProblem),

    /// Other processes of the run could not be reached, or do not match this one.
    #[error("{0}")]
    Exchange(String),

    /// A device that failed to compute or to return a result.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Why Burn's dashboard cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DashboardProblem {
    /// The crate was built without it.
    #[error(
        "is not part of this build, which keeps it small; build it with: cargo build --release \
         --features tui"
    )]
    NotBuilt,
    /// Standard output is not a terminal.
    #[error("needs a terminal, and standard output is not one; leave --tui out")]
    NoTerminal,
}

impl TrainError {
    /// What is wrong with a value of the `[training]` table.
    pub(crate) fn argument(key: &'static str, problem: ArgumentProblem) -> Self {
        Self::Argument { key, problem }
    }

    /// What is wrong with a training file.
    pub(crate) fn config(place: impl Into<String>, problem: ConfigProblem) -> Self {
        let place = place.into();
        Self::Config { place, problem }
    }

    /// Why a run cannot resume from a checkpoint.
    pub(crate) fn resume(checkpoint: &Path, problem: ResumeProblem) -> Self {
        let checkpoint = checkpoint.to_path_buf();
        Self::Resume {
            checkpoint,
            problem,
        }
    }

    /// A closure for `map_err` that makes a [`TrainError::Io`] about `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Io { path, source }
    }
}
