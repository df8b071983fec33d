//! Why a file could not be fetched from the Hub.

use std::path::PathBuf;

use crate::error::ADAPTER_FOLDER;

/// Why a file could not be fetched from the Hugging Face Hub. `hub` names the repository and
/// revision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// `HF_ENDPOINT` is not a valid address.
    #[error("HF_ENDPOINT = {0:?} does not start with http:// or https://")]
    Endpoint(String),
    /// There is no folder for the cache.
    #[error("no home folder for the cache: set HF_HOME")]
    NoCache,
    /// The repository has none of these files, one of which is required.
    #[error("{hub} has none of {names}")]
    NoneOf {
        /// The repository.
        hub: String,
        /// The files.
        names: String,
    },
    /// A transfer ended too early or too late.
    #[error("{hub}, {file}: received {got} bytes of {announced}; try again")]
    Size {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// The number of bytes received.
        got: u64,
        /// The number of bytes announced.
        announced: u64,
    },
    /// The repository was updated between two files.
    #[error("{hub} changed while its files were fetched; try again")]
    Changed {
        /// The repository.
        hub: String,
    },
    /// A file that is not in the cache while offline.
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
    /// The repository holds an adapter.
    #[error("{hub}, {file}: {ADAPTER_FOLDER}")]
    Adapter {
        /// The repository.
        hub: String,
        /// The file that a model would have.
        file: String,
    },
    /// The repository, revision or file does not exist.
    #[error(
        "{hub}, {file}: status 404 at {url}: check the name, the revision and whether it has the file"
    )]
    NotFound {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// The address that was requested.
        url: String,
    },
    /// The server refused, failed or could not be reached.
    #[error("{hub}, {file}: {what} at {url}: {way_out} (cache: {})", cache.display())]
    Failed {
        /// The repository.
        hub: String,
        /// The file.
        file: String,
        /// The status of the response, if there was one.
        status: Option<u16>,
        /// What happened.
        what: String,
        /// The address that was requested.
        url: String,
        /// What may help.
        way_out: &'static str,
        /// The cache.
        cache: PathBuf,
    },
    /// A data set without the requested split or subset.
    #[error("{hub} {problem}")]
    Dataset {
        /// The repository.
        hub: String,
        /// What is missing, and what there is.
        problem: String,
    },
    /// Something that is not on the Hub, and does not exist here either, where it may have been
    /// meant.
    #[error("{on_hub}; and there is no such {what}{seen_from}")]
    Nowhere {
        /// Why it cannot be fetched from the Hub.
        on_hub: Box<HubError>,
        /// What was looked for here.
        what: &'static str,
        /// The folder it was looked for in, with a leading space.
        seen_from: String,
    },
}
