//! Requests to the server.

use std::cell::Cell;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};

use super::bar::Bar;
use super::dataset::walk;
use super::{Hub, HubError};
use crate::error::{ModelError, Result};

/// How often a broken transfer is resumed.
const RETRIES: u64 = 3;

impl Hub {
    /// The names of all files: those on the server or, offline, those in the cache.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        if !self.options.offline {
            let info = self.api("its list of files")?.repo(self.repo()).info();
            let info = info.map_err(|error| self.explain("its list of files", &error))?;
            return Ok(info
                .siblings
                .into_iter()
                .map(|file| file.rfilename)
                .collect());
        }
        let mut names = Vec::new();
        if let Some(snapshot) = self.snapshot() {
            walk(&snapshot, "", usize::MAX, &mut names);
        }
        if names.is_empty() {
            Err(self.missing("its list of files"))
        } else {
            Ok(names)
        }
    }

    /// A client of the server.
    fn api(&self, file: &str) -> Result<Api> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.options.endpoint.clone())
            .with_token(self.options.token.clone())
            .with_user_agent("burn-peft", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| self.explain(file, &error))
    }

    /// hf-hub writes to `blobs/ETAG.part`, resumes there after a break, and renames.
    pub(super) fn download(&self, file: &str) -> Result<Option<PathBuf>> {
        let api = self.api(file)?;
        let repo = api.repo(self.repo());
        tracing::debug!("fetching {}", repo.url(file));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let size = Rc::new(Cell::new(0));
            match repo.download_with_progress(file, Bar::new(&size)) {
                Ok(path) => return self.check_size(file, path, size.get()).map(Some),
                Err(error) if status(&error) == Some(404) => return Ok(None),
                Err(error) if attempt <= RETRIES && is_broken_off(&error) => {
                    tracing::warn!("{file}: {error}; continuing from where it stopped");
                    std::thread::sleep(Duration::from_secs(attempt));
                }
                Err(error) => return Err(self.explain(file, &error)),
            }
        }
    }

    /// A server that truncates a file, or sends all of it when only its end was requested, would
    /// leave a wrong file in the cache.
    pub(super) fn check_size(&self, file: &str, path: PathBuf, size: u64) -> Result<PathBuf> {
        let blob = fs::canonicalize(&path).map_err(ModelError::io(&path))?;
        let got = fs::metadata(&blob).map_err(ModelError::io(&blob))?.len();
        if got == size {
            return Ok(path);
        }
        for wrong in [&path, &blob] {
            fs::remove_file(wrong).map_err(ModelError::io(wrong))?;
        }
        let error = HubError::Size {
            hub: self.describe(),
            file: file.to_string(),
            got,
            announced: size,
        };
        Err(error.into())
    }

    /// Why a file could not be fetched, and what may help.
    fn explain(&self, file: &str, error: &ApiError) -> ModelError {
        let url = self.url(file);
        let way_out = match (status(error), error) {
            (Some(401), _) if self.options.token.is_none() => {
                "there is no such repository, or it is \
                 private: check the name, or set HF_TOKEN"
            }
            (Some(401), _) => {
                "there is no such repository, or the token \
                 does not open it: check the name and HF_TOKEN"
            }
            (Some(403), _) => {
                "access is restricted: accept the terms on its page and set HF_TOKEN to a \
                 token of that account"
            }
            (Some(416), _) | (_, ApiError::InvalidResume) => {
                "an earlier partial download cannot be continued: delete the .part files in the \
                 model's `blobs` folder of the cache"
            }
            (Some(429), _) => "too many requests: wait, or set HF_TOKEN",
            (Some(_), _) => "the server failed: try again later, or set HF_ENDPOINT to a mirror",
            (None, ApiError::RequestError(_)) => {
                "the server cannot be reached: check the network and HF_ENDPOINT, set \
                 HF_HUB_OFFLINE=1 to use the cache alone, or give a folder"
            }
            (None, ApiError::LockAcquisition(_)) => "another process is fetching it: wait for it",
            (None, ApiError::IoError(_)) => "check the network and the space on the cache's disk",
            (None, _) => "the server does not answer as a Hub does: check HF_ENDPOINT",
        };
        let what = match error {
            ApiError::RequestError(error) => match &**error {
                ureq::Error::Status(code, response) => match response.header("x-error-message") {
                    Some(message) => format!("status {code} ({message})"),
                    None => format!("status {code}"),
                },
                ureq::Error::Transport(error) => error.kind().to_string(),
            },
            error => error.to_string(),
        };
        let error = HubError::Failed {
            hub: self.describe(),
            file: file.to_string(),
            status: status(error),
            what,
            url,
            way_out,
            cache: self.cache.clone(),
        };
        error.into()
    }
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::Status(code, _) => Some(code),
            ureq::Error::Transport(_) => None,
        },
        _ => None,
    }
}

fn is_broken_off(error: &ApiError) -> bool {
    let ApiError::IoError(error) = error else {
        return false;
    };
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::TimedOut
    )
}
