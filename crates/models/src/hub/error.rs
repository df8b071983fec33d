//! Why a file could not be had from the Hub.

use std::path::PathBuf;

use crate::error::ADAPTER_FOLDER;

/// Why a file could not be had from the Hugging Face Hub. `hub` names the repository and revision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// `HF_ENDPOINT` is no address.
    #[error("HF_ENDPOINT = {0:?} does not start with http:// or https://")]
    Endpoint(String),
    /// There is no place for the cache.
    #[error("no home folder for the cache: set HF_HOME")]
    NoCache,
    /// The repository has none of the files, of which one is needed.
    #[error("{hub} has none of {names}")]
    NoneOf {
        /// The repository.
        hub: String,
        /// The files.
        names: String,
    },
    /// A transfer ended too early, or too late.
    #[error("{hub}, {file}: {got} bytes came where {announced} were announced; try again")]
    Size {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        announced: u64,
    },
    /// The repository got another commit between two files.
    #[error("{hub} changed while its files were fetched; try again")]
    Changed {
        /// The repository.
        hub: String,
    },
    /// A file that is not in the cache, where nothing else may be asked.
    #[error(
        "{hub}, {file}: not in the cache {}, and HF_HUB_OFFLINE forbids downloads: unset it, or give \
         a folder",
        cache.display()
    )]
    Offline {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The repository is an adapter's.
    #[error("{hub}, {file}: {ADAPTER_FOLDER}")]
    Adapter {
        /// The repository.
        hub: String,
        /// The file that models have.
        file: String,
    },
    /// There is no such repository, revision or file.
    #[error(
        "{hub}, {file}: status 404 at {url}: check the name, the revision and whether it has the file"
    )]
    NotFound {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// Where it was asked for.
        url: String,
    },
    /// The server refused, failed or was not reached.
    #[error("{hub}, {file}: {what} at {url}: {way_out} (cache: {})", cache.display())]
    Failed {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// The answer's status, if there was an answer.
        status: Option<u16>,
        /// What happened.
        what: String,
        /// Where it was asked for.
        url: String,
        /// What may help.
        way_out: &'static str,
        /// The cache.
        cache: PathBuf,
    },
    /// A data set without what was asked for.
    #[error("{hub} {problem}")]
    Dataset {
        /// The repository.
        hub: String,
        /// What it lacks, and what it has.
        problem: String,
    },
    /// What is not on the Hub is not on this machine either, where it may have been meant.
    #[error("{on_hub}; and there is no such {what}{seen_from}")]
    Nowhere {
        /// Why it is not to be had from the Hub.
        on_hub: Box<HubError>,
        /// What was looked for here.
        what: &'static str,
        /// From where, after a space.
        seen_from: String,
    },
}
