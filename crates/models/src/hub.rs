//! Finding a model's files: in a folder, or on the Hugging Face Hub through its cache.

use std::fs;
use std::path::{Component, Path, PathBuf};

use burn_peft::files::CONFIG_NAME;
use hf_hub::{Repo, RepoType};

use crate::error::{ModelError, Result};
use crate::gguf::{Gguf, Translated};

mod ask;
mod bar;
mod client;
mod dataset;
mod error;
mod here;
mod other_weights;

use here::{no_folder, not_here};
use other_weights::other_weights;

pub use ask::HubAnswer;
pub use dataset::{dataset, folder_dataset};
pub use error::HubError;

/// The default revision.
const MAIN: &str = "main";

/// Finds a model's files with the environment's [`HubOptions`]; see [`HubOptions::resolve`].
///
/// # Errors
/// As for [`HubOptions::resolve`].
pub fn resolve(model: &str, required: &[&str], optional: &[&str]) -> Result<ModelFiles> {
    HubOptions::from_env().resolve(model, required, optional)
}

/// How to reach the Hub.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The server's address, without a trailing slash.
    pub endpoint: String,
    /// The access token, for private and gated repositories.
    pub token: Option<String>,
    /// The cache, laid out as by `huggingface_hub` and `hf-hub`. `None` if there is no home folder.
    pub cache: Option<PathBuf>,
    /// Use only files in the cache.
    pub offline: bool,
}

impl HubOptions {
    /// The options set by the environment, as `huggingface_hub` reads them: `HF_ENDPOINT`,
    /// `HF_TOKEN` (or the file at `HF_TOKEN_PATH`, or `HF_HOME/token`), `HF_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let var = |name: &str| {
            let value = get(name)?.trim().to_string();
            (!value.is_empty()).then_some(value)
        };
        let is_on = |name| {
            let on = ["1", "on", "yes", "true"];
            var(name).is_some_and(|value| on.contains(&value.to_lowercase().as_str()))
        };
        let hf_home = var("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = var("XDG_CACHE_HOME").map(PathBuf::from);
            Some(
                cache
                    .or_else(|| Some(home?.join(".cache")))?
                    .join("huggingface"),
            )
        });
        let stored_token = || {
            let path = var("HF_TOKEN_PATH").map(PathBuf::from);
            let path = path.or_else(|| Some(hf_home.as_ref()?.join("token")))?;
            let token = fs::read_to_string(path).ok()?.trim().to_string();
            (!token.is_empty()).then_some(token)
        };
        Self {
            endpoint: var("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".into())
                .trim_end_matches('/')
                .into(),
            token: var("HF_TOKEN").or_else(stored_token),
            cache: var("HF_HUB_CACHE")
                .map(PathBuf::from)
                .or_else(|| Some(hf_home.as_ref()?.join("hub"))),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
        }
    }

    /// Finds a model's files. `model` is a folder, a GGUF file, or a Hub id (`gpt2`,
    /// `organisation/name`) with an optional `@revision`, or with one of its GGUF files after `:`
    /// (`organisation/name:model.gguf`). All `required` files must exist; `optional` ones are
    /// fetched if they exist, the others on demand.
    ///
    /// # Errors
    /// If the folder or a required file does not exist, or a download fails; the error has the
    /// repository, the file, the status and the way out.
    pub fn resolve(&self, model: &str, required: &[&str], optional: &[&str]) -> Result<ModelFiles> {
        let path = Path::new(model);
        if path.is_dir() {
            let files = ModelFiles::folder(path);
            for file in required {
                files.get(file)?;
            }
            return Ok(files);
        }
        if is_gguf(path) {
            return ModelFiles::gguf(path);
        }
        if path.exists() {
            let reason = if begins_as_gguf(path) {
                "is a GGUF file, and its name does not end in .gguf: rename it"
            } else {
                "is a file; a model is a folder (with config.json), a GGUF file or a Hub id"
            };
            return Err(ModelError::file(path, reason));
        }
        if let Some((id, file)) = model.rsplit_once(':')
            && has_gguf_name(Path::new(file))
            && Path::new(file).components().all(is_name)
            && let Some((id, revision)) = parse_id(id)
        {
            return Hub::new(self, id, revision)?.gguf(file);
        }
        let Some((id, revision)) = parse_id(model) else {
            return Err(no_folder(path));
        };
        let found = Hub::new(self, id, revision)?.resolve(required, optional);
        found.map_err(|error| not_here(error, "folder"))
    }
}

/// Whether a path component stays within its folder.
fn is_name(part: Component) -> bool {
    matches!(part, Component::Normal(_))
}

/// Whether a path is a file with the extension of GGUF files.
pub fn is_gguf(path: &Path) -> bool {
    has_gguf_name(path) && path.is_file()
}

fn has_gguf_name(path: &Path) -> bool {
    let end = path.extension();
    end.is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// Whether a file without that extension is a GGUF file.
fn begins_as_gguf(path: &Path) -> bool {
    use std::io::Read;

    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    // If it cannot be read, the answer is no.
    read.is_ok() && start == *b"GGUF"
}

/// `id` and `revision` of `id@revision`, or `None` if it looks like a path.
fn parse_id(model: &str) -> Option<(&str, &str)> {
    let (id, revision) = model.split_once('@').unwrap_or((model, MAIN));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && !name.ends_with('.')
            && name.chars().all(plain)
    };
    let is_file = [".json", ".safetensors", ".bin", ".toml", ".gguf"]
        .iter()
        .any(|end| id.ends_with(end));
    let valid = id.split('/').count() <= 2
        && id.split('/').all(is_name)
        && revision.split('/').all(is_name)
        && !model.contains("..")
        && !is_file;
    valid.then_some((id, revision))
}

/// The files of one model: those of a folder; those of one snapshot of a Hub repository, downloaded
/// when they are requested; or those that a GGUF file stands for.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    folder: PathBuf,
    hub: Option<Hub>,
    gguf: Option<Translated>,
}

impl ModelFiles {
    /// The files of a folder.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self {
            folder: path.into(),
            hub: None,
            gguf: None,
        }
    }

    /// The files that a GGUF file stands for.
    ///
    /// # Errors
    /// If the file is malformed, of an unsupported architecture, or lacks something required.
    pub fn gguf(path: impl AsRef<Path>) -> Result<Self> {
        let gguf = Translated::new(Gguf::open(path)?)?;
        Ok(Self {
            folder: gguf.folder(),
            hub: None,
            gguf: Some(gguf),
        })
    }

    /// The GGUF file that these files stand for, if any.
    pub(crate) fn as_gguf(&self) -> Option<&Translated> {
        self.gguf.as_ref()
    }

    /// The folder; for a Hub model, the snapshot in the cache with the files fetched so far.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The path of a file, or `None` if the model has no such file.
    ///
    /// # Errors
    /// If a download fails.
    pub fn find(&self, file: &str) -> Result<Option<PathBuf>> {
        let path = self.folder.join(file);
        if path.exists() {
            return Ok(Some(path));
        }
        let Some(hub) = &self.hub else {
            return Ok(None);
        };
        match hub.fetch(file)? {
            Some(fetched) if fetched != path => Err(hub.changed()),
            fetched => Ok(fetched),
        }
    }

    /// The path of a required file.
    ///
    /// # Errors
    /// As [`Self::find`], or if the file is missing.
    pub fn get(&self, file: &str) -> Result<PathBuf> {
        self.find(file)?.ok_or_else(|| self.missing(file))
    }

    /// The error for a missing file, with the reason if it is a common one.
    pub(crate) fn missing(&self, file: &str) -> ModelError {
        if let Some(hub) = &self.hub {
            return hub.missing(file);
        }
        if !self.folder.join("config.json").exists() && self.folder.join(CONFIG_NAME).exists() {
            let folder = self.folder.clone();
            return ModelError::Adapter { folder };
        }
        let is_weights = file.starts_with("model.");
        ModelError::MissingFile {
            folder: self.folder.clone(),
            file: file.to_string(),
            instead: is_weights.then(|| other_weights(&self.folder)).flatten(),
        }
    }
}

/// One repository at one revision.
#[derive(Debug, Clone)]
struct Hub {
    options: HubOptions,
    cache: PathBuf,
    kind: RepoType,
    id: String,
    revision: String,
}

impl Hub {
    fn new(options: &HubOptions, id: &str, revision: &str) -> Result<Self> {
        let endpoint = &options.endpoint;
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(HubError::Endpoint(endpoint.clone()).into());
        }
        let cache = options.cache.clone().ok_or(HubError::NoCache)?;
        // The cache's links are relative to it: hf-hub needs the full path.
        let cache = std::path::absolute(&cache).map_err(ModelError::io(&cache))?;
        Ok(Self {
            options: options.clone(),
            cache,
            kind: RepoType::Model,
            id: id.into(),
            revision: revision.into(),
        })
    }

    fn resolve(self, required: &[&str], optional: &[&str]) -> Result<ModelFiles> {
        // The cache may have some files of an older snapshot, while the others come from the
        // newest. The second pass then finds, or fetches, all of them in the newest.
        for _ in 0..2 {
            let mut folders = Vec::new();
            for file in required {
                let path = self.fetch(file)?.ok_or_else(|| self.missing(file))?;
                folders.push(folder_of(&path, file));
            }
            for file in optional {
                folders.extend(self.fetch(file)?.map(|path| folder_of(&path, file)));
            }
            folders.dedup();
            match folders.len() {
                0 => {
                    let names = optional.join(", ");
                    let hub = self.describe();
                    return Err(HubError::NoneOf { hub, names }.into());
                }
                1 => {
                    return Ok(ModelFiles {
                        folder: folders.remove(0),
                        hub: Some(self),
                        gguf: None,
                    });
                }
                _ => {}
            }
        }
        Err(self.changed())
    }

    /// The files that a GGUF file stands for, including the other parts if it is split.
    fn gguf(self, file: &str) -> Result<ModelFiles> {
        let first = self.fetch(file)?.ok_or_else(|| self.missing(file))?;
        for part in crate::gguf::parts(file).into_iter().flatten().skip(1) {
            self.fetch(&part)?.ok_or_else(|| self.missing(&part))?;
        }
        ModelFiles::gguf(first)
    }

    /// A file from the cache or the server; `None` if there is none.
    fn fetch(&self, file: &str) -> Result<Option<PathBuf>> {
        match self.cached(file) {
            Some(path) => Ok(Some(path)),
            None if self.options.offline => Ok(None),
            None => self.download(file),
        }
    }

    fn cached(&self, file: &str) -> Option<PathBuf> {
        let path = self.snapshot()?.join(file);
        path.exists().then_some(path)
    }

    /// The folder of the revision's files in the cache. Offline, if the cache lacks the commit of
    /// the revision (copied without `refs`, for example), it is the most recent snapshot.
    fn snapshot(&self) -> Option<PathBuf> {
        let folder = self.cache.join(self.repo().folder_name());
        let snapshots = folder.join("snapshots");
        let reference = fs::read_to_string(folder.join("refs").join(&self.revision));
        // An editor or `echo` adds a line break. `huggingface_hub` writes no such file for a
        // revision that is a commit.
        let named = reference.ok().map(|commit| commit.trim().to_string());
        for commit in named.as_deref().into_iter().chain([self.revision.as_str()]) {
            let snapshot = snapshots.join(commit);
            if !commit.is_empty() && snapshot.is_dir() {
                return Some(snapshot);
            }
        }
        if !(self.options.offline && self.revision == MAIN) {
            return None;
        }
        let entries = fs::read_dir(snapshots).ok()?.flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let newest = folders.max_by_key(|entry| {
            let time = entry.metadata().and_then(|found| found.modified());
            (time.ok(), entry.file_name())
        });
        newest.map(|entry| entry.path())
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.id.clone(), self.kind, self.revision.clone())
    }

    fn describe(&self) -> String {
        let kind = self.kind_name();
        format!("Hub {kind} {} (revision {})", self.id, self.revision)
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            RepoType::Dataset => "data set",
            _ => "model",
        }
    }

    fn url(&self, file: &str) -> String {
        let repo = self.repo();
        format!(
            "{}/{}/resolve/{}/{file}",
            self.options.endpoint,
            repo.url(),
            repo.url_revision()
        )
    }

    fn changed(&self) -> ModelError {
        let hub = self.describe();
        HubError::Changed { hub }.into()
    }

    fn missing(&self, file: &str) -> ModelError {
        let hub = self.describe();
        let is_adapter = || matches!(self.fetch(CONFIG_NAME), Ok(Some(_)));
        let (name, file) = (file, file.to_string());
        let error = if self.options.offline {
            let cache = self.cache.clone();
            HubError::Offline { hub, file, cache }
        } else if name == "config.json" && is_adapter() {
            HubError::Adapter { hub, file }
        } else {
            let url = self.url(name);
            HubError::NotFound { hub, file, url }
        };
        error.into()
    }
}

/// The snapshot that holds `file` at `path`.
fn folder_of(path: &Path, file: &str) -> PathBuf {
    let depth = Path::new(file).components().count();
    path.ancestors().nth(depth).unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
