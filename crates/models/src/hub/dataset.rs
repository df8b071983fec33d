//! Data sets of the Hub: which of a repository's files are a split.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hf_hub::api::sync::ApiBuilder;

use super::*;

/// The kinds of files that hold rows, the preferred first: what needs no further crate to read.
const KINDS: [&str; 7] = ["jsonl", "ndjson", "json", "csv", "tsv", "txt", "parquet"];

/// Finds the files of a data set with the environment's [`HubOptions`]; see
/// [`HubOptions::dataset`].
pub fn dataset(spec: &str) -> Result<Option<Vec<PathBuf>>> {
    HubOptions::from_env().dataset(spec)
}

/// `organisation/name@revision:subset/split`, of which revision, subset and split may be left out.
struct Spec<'a> {
    id: &'a str,
    revision: &'a str,
    subset: Option<&'a str>,
    split: Option<&'a str>,
}

impl<'a> Spec<'a> {
    /// `None` where it looks like a path.
    fn parse(spec: &'a str) -> Option<Self> {
        let (repo, part) = match spec.split_once(':') {
            Some((repo, part)) => (repo, Some(part)),
            None => (spec, None),
        };
        let (id, revision) = parse_id(repo)?;
        let is_file = KINDS.iter().any(|kind| id.ends_with(&format!(".{kind}")));
        if is_file || !(id.contains('/') || part.is_some()) {
            return None;
        }
        let (subset, split) = match part.map(|part| (part, part.rsplit_once('/'))) {
            None => (None, None),
            Some((_, Some((subset, split)))) => (Some(subset), Some(split)),
            Some((split, None)) => (None, Some(split)),
        };
        Some(Self {
            id,
            revision,
            subset,
            split,
        })
    }

    /// The files of the split among all files of the repository.
    fn files<'b>(&self, names: &'b [String]) -> std::result::Result<Vec<&'b str>, String> {
        let kind = |name: &str| {
            let (_, kind) = name.rsplit_once('.')?;
            KINDS.iter().position(|known| *known == kind)
        };
        let is_data = |name: &&str| {
            let file = name.rsplit('/').next().unwrap_or(name);
            let about = ["dataset_infos.json", "dataset_info.json", "state.json"];
            kind(name).is_some() && !about.contains(&file) && !name.starts_with('.')
        };
        let all: Vec<&str> = names.iter().map(String::as_str).filter(is_data).collect();
        if all.is_empty() {
            return Err(format!("has no file that ends in .{}", KINDS.join(", .")));
        }
        let of_subset = |name: &&str| {
            let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
            self.subset
                .is_none_or(|subset| folders.split('/').any(|folder| folder == subset))
        };
        let split = self.split.unwrap_or("train");
        let mut found: Vec<&str> = all.iter().copied().filter(of_subset).collect();
        let of_split = |name: &&str| mentions(name, split);
        match (found.iter().any(of_split), self.split) {
            // Where no file is called after a split, all are `train`.
            (false, None) => {}
            _ => found.retain(|name| of_split(name)),
        }
        let best = found.iter().filter_map(|name| kind(name)).min();
        found.retain(|name| kind(name) == best);
        found.sort_unstable();
        if found.is_empty() {
            let subset = self.subset.map(|subset| format!(" of {subset}"));
            let shown: Vec<&str> = all.iter().copied().take(8).collect();
            return Err(format!(
                "has no file of the split {split:?}{}; its files are {}{}",
                subset.unwrap_or_default(),
                shown.join(", "),
                if all.len() > shown.len() { ", …" } else { "" }
            ));
        }
        let folder = |name: &&'b str| name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folders: BTreeSet<&str> = found.iter().map(folder).collect();
        match folders.len() {
            1 => Ok(found),
            _ => {
                let folders: Vec<&str> = folders.into_iter().collect();
                Err(format!(
                    "has several subsets ({}); name one of them: {}:SUBSET/{split}",
                    folders.join(", "),
                    self.id
                ))
            }
        }
    }
}

/// Whether a path holds a split's name as a word of its own: `data/train-00000-of-00001.parquet`.
fn mentions(path: &str, split: &str) -> bool {
    let between = |c: char| !c.is_ascii_alphanumeric();
    let words = |text: &str| format!("-{}-", text.replace(between, "-"));
    words(path).contains(&words(split))
}

impl HubOptions {
    /// Fetches the files of a data set's split: `organisation/name`, then `@revision`, `:split` or
    /// `:subset/split` where wanted; the split is `train` unless said. `None` where `spec` looks
    /// like a path.
    ///
    /// # Errors
    /// A split or subset that is not there, with those that are, or what kept a file from being
    /// downloaded.
    pub fn dataset(&self, spec: &str) -> Result<Option<Vec<PathBuf>>> {
        let Some(spec) = Spec::parse(spec) else {
            return Ok(None);
        };
        let mut hub = Hub::new(self, spec.id, spec.revision)?;
        hub.kind = RepoType::Dataset;
        let names = hub.list()?;
        let files = spec
            .files(&names)
            .map_err(|problem| ModelError::Hub(format!("{} {problem}", hub.describe())))?;
        let snapshot = hub.resolve(&files, &[])?;
        let paths = files.iter().map(|file| snapshot.get(file));
        paths.collect::<Result<_>>().map(Some)
    }
}

impl Hub {
    /// The names of all files: those on the server, or offline those in the cache.
    fn list(&self) -> Result<Vec<String>> {
        if !self.options.offline {
            let info = self.api("its list of files")?.repo(self.repo()).info();
            let info = info.map_err(|error| self.explain("its list of files", &error))?;
            return Ok(info
                .siblings
                .into_iter()
                .map(|file| file.rfilename)
                .collect());
        }
        let folder = self.cache.join(self.repo().folder_name());
        let reference = folder.join("refs").join(&self.revision);
        let commit = fs::read_to_string(reference).unwrap_or_else(|_| self.revision.clone());
        let snapshot = folder.join("snapshots").join(commit.trim());
        let mut names = Vec::new();
        walk(&snapshot, "", &mut names);
        match names.is_empty() {
            true => Err(self.missing("its list of files")),
            false => Ok(names),
        }
    }

    /// A client of the server.
    pub(super) fn api(&self, file: &str) -> Result<hf_hub::api::sync::Api> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.options.endpoint.clone())
            .with_token(self.options.token.clone())
            .with_user_agent("burn-peft", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| self.explain(file, &error))
    }
}

/// The files below a folder, named from its top. What cannot be read is not there.
fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => walk(&entry.path(), &format!("{name}/"), names),
            false => names.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(spec: &str, names: &[&str]) -> std::result::Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let found = Spec::parse(spec).unwrap().files(&names)?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    #[test]
    fn splits_are_found_by_their_names() {
        // As stanfordnlp/imdb is laid out.
        let imdb = [
            ".gitattributes",
            "README.md",
            "plain_text/test-00000-of-00001.parquet",
            "plain_text/train-00000-of-00001.parquet",
            "plain_text/unsupervised-00000-of-00001.parquet",
        ];
        let train = ["plain_text/train-00000-of-00001.parquet"];
        assert_eq!(files("stanfordnlp/imdb:train", &imdb).unwrap(), train);
        assert_eq!(files("stanfordnlp/imdb", &imdb).unwrap(), train);
        assert_eq!(
            files("stanfordnlp/imdb:plain_text/train", &imdb).unwrap(),
            train
        );
        let error = files("stanfordnlp/imdb:trian", &imdb).unwrap_err();
        assert!(
            error.starts_with("has no file of the split \"trian\"; its files are plain_text/test-")
        );

        let shards = [
            "b/train-1.jsonl",
            "b/train-0.jsonl",
            "b/train-0.parquet",
            "b/pretraining.jsonl",
        ];
        assert_eq!(
            files("a/b:train", &shards).unwrap(),
            ["b/train-0.jsonl", "b/train-1.jsonl"]
        );
        let subsets = ["x/train.csv", "y/train.csv"];
        let error = files("a/b:train", &subsets).unwrap_err();
        assert_eq!(
            error,
            "has several subsets (x, y); name one of them: a/b:SUBSET/train"
        );
        assert_eq!(files("a/b:y/train", &subsets).unwrap(), ["y/train.csv"]);
        // One file of any name is the training split.
        assert_eq!(
            files("a/b", &["alpaca.json", "README.md"]).unwrap(),
            ["alpaca.json"]
        );
        assert!(files("a/b:train", &["alpaca.json"]).is_err());
        assert!(
            files("a/b", &["a.bin"])
                .unwrap_err()
                .starts_with("has no file that ends in .jsonl")
        );
    }

    #[test]
    fn paths_are_no_data_sets() {
        for path in [
            "a.jsonl",
            "data/a.csv",
            "reviews",
            "./a/b",
            "/a/b",
            "a/b/c",
            "../b",
            "",
        ] {
            assert!(Spec::parse(path).is_none(), "{path}");
        }
        let spec = Spec::parse("org/set@refs/convert/parquet:small/test").unwrap();
        assert_eq!(
            (spec.id, spec.revision),
            ("org/set", "refs/convert/parquet")
        );
        assert_eq!((spec.subset, spec.split), (Some("small"), Some("test")));
        assert!(Spec::parse("imdb:train").is_some());
    }
}
