//! What is asked of the server.

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder};

use super::Hub;
use super::dataset::walk;
use crate::error::Result;

impl Hub {
    /// The names of all files: those on the server, or offline those in the cache.
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
        match names.is_empty() {
            true => Err(self.missing("its list of files")),
            false => Ok(names),
        }
    }

    /// A client of the server.
    pub(super) fn api(&self, file: &str) -> Result<Api> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.options.endpoint.clone())
            .with_token(self.options.token.clone())
            .with_user_agent("burn-peft", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| self.explain(file, &error))
    }
}
