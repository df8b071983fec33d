//! Data sets on the Hub: which files of a repository form a split.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

/// The kinds of data files, the preferred first: those that need no further crate.
const KINDS: [&str; 7] = ["jsonl", "ndjson", "json", "csv", "tsv", "txt", "parquet"];

/// How deep in a folder data files are looked for.
const DEPTH: usize = 3;

/// Other names of splits, as `datasets` and mlx-lm accept them.
const SPLITS: [&[&str]; 3] = [
    &["train", "training"],
    &["validation", "valid", "val", "dev", "eval"],
    &["test", "testing", "evaluation"],
];

/// Finds the files of a data set with the environment's [`HubOptions`]; see
/// [`HubOptions::dataset`].
///
/// # Errors
/// As for [`HubOptions::dataset`].
pub fn dataset(spec: &str) -> Result<Option<Vec<PathBuf>>> {
    HubOptions::from_env().dataset(spec)
}

/// Finds the files of a split, `train` by default, in a local folder laid out like a data set on
/// the Hub: the files in the folder, or else those below it.
///
/// # Errors
/// If the split or subset does not exist; the error lists those that do.
pub fn folder_dataset(folder: &str, split: Option<&str>) -> Result<Vec<PathBuf>> {
    let path = Path::new(folder);
    let mut names = Vec::new();
    for depth in [1, DEPTH] {
        names.clear();
        walk(path, "", depth, &mut names);
        if names.iter().any(|name| kind(name).is_some()) {
            break;
        }
    }
    let files = Spec::new(folder, "", split).files(&names);
    let files = files.map_err(|problem| ModelError::file(path, problem))?;
    Ok(files.into_iter().map(|file| path.join(file)).collect())
}

/// `organisation/name@revision:subset/split`, in which revision, subset and split are optional.
struct Spec<'a> {
    id: &'a str,
    revision: &'a str,
    subset: Option<&'a str>,
    split: Option<&'a str>,
}

impl<'a> Spec<'a> {
    /// `None` if it looks like a path.
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
        Some(Self::new(id, revision, part))
    }

    fn new(id: &'a str, revision: &'a str, part: Option<&'a str>) -> Self {
        let (subset, split) = match part.map(|part| (part, part.rsplit_once('/'))) {
            None => (None, None),
            Some((_, Some((subset, split)))) => (Some(subset), Some(split)),
            Some((split, None)) => (None, Some(split)),
        };
        Self {
            id,
            revision,
            subset,
            split,
        }
    }

    /// The files of the split among all files of the repository.
    fn files<'b>(&self, names: &'b [String]) -> std::result::Result<Vec<&'b str>, String> {
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
        let names = SPLITS.iter().find(|names| names.contains(&split));
        // The exact name takes precedence over similar ones.
        let mut names = names.map_or(Vec::new(), |names| names.to_vec());
        names.sort_by_key(|name| *name != split);
        let mut names = names.into_iter();
        let found_as = names.find(|name| found.iter().any(|file| mentions(file, name)));
        let of_split = |name: &&str| mentions(name, found_as.unwrap_or(split));
        match (found.iter().any(of_split), self.split) {
            // If no file is named after a split, all files are `train`.
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

/// The kind of a file, as an index into [`KINDS`].
fn kind(name: &str) -> Option<usize> {
    let (_, kind) = name.rsplit_once('.')?;
    KINDS.iter().position(|known| *known == kind)
}

/// Whether a path contains a split's name as a separate word: `data/train-00000-of-00001.parquet`.
fn mentions(path: &str, split: &str) -> bool {
    let between = |c: char| !c.is_ascii_alphanumeric();
    let words = |text: &str| format!("-{}-", text.replace(between, "-"));
    words(path).contains(&words(split))
}

impl HubOptions {
    /// Fetches the files of a data set's split: `organisation/name`, optionally followed by
    /// `@revision`, `:split` or `:subset/split`. The split is `train` by default. `None` if `spec`
    /// looks like a path.
    ///
    /// # Errors
    /// If the split or subset does not exist (the error lists those that do), or a file cannot be
    /// downloaded.
    pub fn dataset(&self, spec: &str) -> Result<Option<Vec<PathBuf>>> {
        let Some(spec) = Spec::parse(spec) else {
            return Ok(None);
        };
        let mut hub = Hub::new(self, spec.id, spec.revision)?;
        hub.kind = RepoType::Dataset;
        let here = |error| not_here(error, "file or folder");
        let names = hub.list().map_err(here)?;
        let files = spec.files(&names).map_err(|problem| HubError::Dataset {
            hub: hub.describe(),
            problem,
        })?;
        let snapshot = hub.resolve(&files, &[])?;
        let paths = files.iter().map(|file| snapshot.get(file));
        paths.collect::<Result<_>>().map(Some)
    }
}

/// The files below a folder, to this depth, with paths relative to it. Unreadable and hidden ones
/// are skipped.
pub(super) fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if !entry.path().is_dir() {
            names.push(name);
        } else if depth > 1 && !entry.file_name().to_string_lossy().starts_with('.') {
            walk(&entry.path(), &format!("{name}/"), depth - 1, names);
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
        // mlx-lm's names, and those of `datasets`.
        let names = ["train.jsonl", "valid.jsonl", "test.jsonl"];
        for (split, file) in [
            ("validation", "valid.jsonl"),
            ("valid", "valid.jsonl"),
            ("dev", "valid.jsonl"),
            ("test", "test.jsonl"),
            ("train", "train.jsonl"),
        ] {
            assert_eq!(files(&format!("a/b:{split}"), &names).unwrap(), [file]);
        }
        let names = ["val.csv", "validation.csv"];
        assert_eq!(files("a/b:val", &names).unwrap(), ["val.csv"]);
        assert_eq!(files("a/b:validation", &names).unwrap(), ["validation.csv"]);
        // A single file of any name is the training split.
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
