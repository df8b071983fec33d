//! Distributing the tensors of a large model over files, with an index, as transformers does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use super::{INDEX, NamedTensor, SaveOptions, WEIGHTS, size_of};

/// The files of a model, in order: names, and the tensors of each.
pub(super) struct Shards<'a> {
    pub files: Vec<(String, Vec<NamedTensor<'a>>)>,
    /// The text of the index, if there are several files.
    pub index: Option<String>,
}

/// `model.safetensors.index.json`, with keys sorted.
#[derive(Serialize)]
struct Index {
    metadata: IndexMetadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct IndexMetadata {
    total_parameters: u64,
    total_size: u64,
}

impl<'a> Shards<'a> {
    /// Fills one file after another. A tensor that is larger than a file may be gets one of its
    /// own.
    pub fn new(mut tensors: Vec<NamedTensor<'a>>, options: &SaveOptions) -> Self {
        tensors.sort_by_cached_key(|tensor| natural_key(&tensor.name));
        let total_parameters = tensors.iter().map(numel).sum();
        let size = |tensor: &NamedTensor| size_of(tensor, options.dtype);
        let total_size = tensors.iter().map(size).sum();
        let mut shards = Vec::new();
        let (mut current, mut current_size) = (Vec::new(), 0);
        for tensor in tensors {
            let size = size(&tensor);
            if size > options.max_shard_size {
                shards.push(vec![tensor]);
                continue;
            }
            if current_size + size > options.max_shard_size {
                shards.push(std::mem::take(&mut current));
                current_size = 0;
            }
            current_size += size;
            current.push(tensor);
        }
        if !current.is_empty() || shards.is_empty() {
            shards.push(current);
        }
        if shards.len() == 1 {
            return Self {
                files: shards
                    .into_iter()
                    .map(|one| (WEIGHTS.to_string(), one))
                    .collect(),
                index: None,
            };
        }
        let count = shards.len();
        let name = |number: usize| format!("model-{number:05}-of-{count:05}.safetensors");
        let files: Vec<_> = (1..).map(name).zip(shards).collect();
        let weight_map = files.iter().flat_map(|(file, tensors)| {
            let names = tensors.iter().map(|tensor| tensor.name.clone());
            names.map(|name| (name, file.clone()))
        });
        let index = Index {
            metadata: IndexMetadata {
                total_parameters,
                total_size,
            },
            weight_map: weight_map.collect(),
        };
        let index = serde_json::to_string_pretty(&index).expect("strings and numbers");
        Self {
            files,
            index: Some(index + "\n"),
        }
    }
}

fn numel(tensor: &NamedTensor) -> u64 {
    tensor.shape.iter().map(|&size| size as u64).product()
}

/// The order of tensors: by the parts of their names, with numbers compared by value (transformers'
/// `dot_natural_key`).
fn natural_key(name: &str) -> Vec<(bool, String, Option<u64>)> {
    let part = |part: &str| {
        let text = part.trim_end_matches(|c: char| c.is_ascii_digit());
        (
            !text.is_empty(),
            text.to_string(),
            part[text.len()..].parse().ok(),
        )
    };
    name.split('.').map(part).collect()
}

/// The files in a folder that hold or list a model's weights: `model.safetensors`, its index and
/// shards, sorted by name. Empty if there is no such folder.
///
/// # Errors
/// If the folder cannot be read.
pub fn weight_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(holds_weights) {
            files.push(folder.join(name));
        }
    }
    files.sort();
    Ok(files)
}

fn holds_weights(file: &str) -> bool {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let shard = file
        .strip_prefix("model-")
        .and_then(|file| file.strip_suffix(".safetensors"));
    let numbers = shard.and_then(|shard| shard.split_once("-of-"));
    [WEIGHTS, INDEX].contains(&file) || numbers.is_some_and(|(a, b)| is_number(a) && is_number(b))
}
