//! The files beside a model's weights: its tokenizer with chat templates, and its generation
//! settings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn_peft_files::atomic;
use burn_peft_models::GENERATION_CONFIG;
use burn_peft_models::embeddings::SENTENCE_FILES;
use burn_peft_models::hub::{self, ModelFiles};

/// The files of a tokenizer: the first by itself, or else the second with the third, or else the
/// fourth.
const TOKENIZERS: [&str; 4] = ["tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"];
/// Files that may be beside them.
const TOKENIZER_EXTRAS: [&str; 4] = [
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
];
/// The folder of chat templates beside the first.
const TEMPLATES: &str = "additional_chat_templates";

/// The files of a tokenizer, for a message that there are none.
pub fn tokenizer_names() -> String {
    let [whole, vocab, merges, words] = TOKENIZERS;
    format!("{whole}, nor {vocab} with {merges}, nor {words}")
}

/// Finds a tokenizer by itself, in a folder or by Hub id, with all its files.
pub fn resolve(given: &str) -> Result<ModelFiles> {
    let files = hub::resolve(given, &[], &TOKENIZERS).context("cannot load the tokenizer")?;
    tokenizer_files(&files)?;
    Ok(files)
}

/// The names of a model's tokenizer files, which are fetched for a Hub model. Empty if it has no
/// tokenizer.
pub fn tokenizer_files(files: &ModelFiles) -> Result<Vec<String>> {
    let mut found = find(files, &TOKENIZERS[..1])?;
    if found.is_empty() {
        found = find(files, &TOKENIZERS[1..])?;
    }
    if !found.is_empty() {
        found.extend(extras(files)?);
    }
    Ok(found)
}

/// Those of the names that exist.
fn find(files: &ModelFiles, names: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        if files.find(name)?.is_some() {
            found.push((*name).to_string());
        }
    }
    Ok(found)
}

/// The names of the files beside a tokenizer.
fn extras(files: &ModelFiles) -> Result<Vec<String>> {
    let mut found = find(files, &TOKENIZER_EXTRAS)?;
    found.extend(templates(files.path())?);
    Ok(found)
}

/// The names of further chat templates in a folder.
fn templates(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join(TEMPLATES);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let cannot = || format!("cannot read {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".jinja") {
            names.push(format!("{TEMPLATES}/{name}"));
        }
    }
    names.sort();
    Ok(names)
}

/// Copies what a model's folder needs, apart from `config.json` and the weights, to be usable: the
/// tokenizer (the model's, or the one `given`: a folder, a file or a Hub id), the generation
/// settings, and the files of sentence-transformers. Returns the new files.
pub fn copy(files: &ModelFiles, given: Option<&str>, target: &Path) -> Result<Vec<PathBuf>> {
    let mut sources: Vec<(PathBuf, String)> = Vec::new();
    let (tokenizer, names) = match given {
        None => (files.clone(), tokenizer_files(files)?),
        Some(file) if Path::new(file).is_file() && !hub::is_gguf(Path::new(file)) => {
            let file = Path::new(file);
            let folder = file
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = ModelFiles::folder(folder.unwrap_or(Path::new(".")));
            let is_pair = TOKENIZERS[1..].iter().any(|name| file.ends_with(name));
            let mut names = extras(&folder)?;
            if is_pair {
                names.extend(find(&folder, &TOKENIZERS[1..])?);
            } else {
                // It may have another name here.
                sources.push((file.into(), TOKENIZERS[0].into()));
            }
            (folder, names)
        }
        Some(given) => {
            let tokenizer = resolve(given)?;
            let names = tokenizer_files(&tokenizer)?;
            (tokenizer, names)
        }
    };
    let names = names.into_iter();
    sources.extend(names.map(|name| (tokenizer.path().join(&name), name)));
    if let Some(path) = files.find(GENERATION_CONFIG)? {
        sources.push((path, GENERATION_CONFIG.into()));
    }
    sources.extend(sentence_files(files)?);
    put(sources, target)
}

/// Copies the files of sentence-transformers beside an adapter, if there are any.
pub fn copy_sentence_files(adapter: &Path, target: &Path) -> Result<()> {
    put(sentence_files(&ModelFiles::folder(adapter))?, target).map(drop)
}

/// If an adapter is for embeddings, copies the files beside its weights: those of
/// sentence-transformers, and the tokenizer.
pub fn copy_of_embedder(adapter: &Path, target: &Path) -> Result<()> {
    let files = ModelFiles::folder(adapter);
    if files.find(SENTENCE_FILES[0])?.is_none() {
        return Ok(());
    }
    copy(&files, None, target).map(drop)
}

/// The files of sentence-transformers in a folder, with their names.
fn sentence_files(files: &ModelFiles) -> Result<Vec<(PathBuf, String)>> {
    // Most models have none.
    if files.find(SENTENCE_FILES[0])?.is_none() {
        return Ok(Vec::new());
    }
    let names = find(files, &SENTENCE_FILES)?.into_iter();
    Ok(names.map(|name| (files.path().join(&name), name)).collect())
}

/// Copies files to their names in a folder. Returns the new files.
fn put(sources: Vec<(PathBuf, String)>, target: &Path) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (source, name) in sources {
        let path = target.join(name);
        let bytes =
            fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let cannot = || format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(cannot)?;
        }
        atomic::write(&path, &bytes).with_context(cannot)?;
        written.push(path);
    }
    Ok(written)
}
