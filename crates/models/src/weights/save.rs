//! Writing model folders.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use burn::tensor::FloatDType;
use burn_peft_files::atomic::{put, temporary_file};

use super::shards::{Shards, weight_files};
use super::{CONFIG, INDEX, NamedTensor, WEIGHTS, WeightsError, safetensors};
use crate::error::{ModelError, Result};

/// How weights are written.
#[derive(Clone, Debug)]
pub struct SaveOptions {
    /// Their type: `F32`, `F16` or `BF16`.
    pub dtype: FloatDType,
    /// The most bytes of tensors in one file; a larger model is written to several files
    /// (`model-00001-of-00002.safetensors`) with an index. A single larger tensor gets a file of
    /// its own.
    pub max_shard_size: u64,
    /// Whether to reject a tensor that holds a NaN or an infinity.
    pub finite: bool,
}

impl Default for SaveOptions {
    /// 32 bits, 5 GB a file, finite.
    fn default() -> Self {
        Self {
            dtype: FloatDType::F32,
            max_shard_size: 5_000_000_000,
            finite: true,
        }
    }
}

/// The size of a tensor in a file, in bytes.
pub(super) fn size_of(tensor: &NamedTensor, dtype: FloatDType) -> u64 {
    let bytes = match dtype {
        FloatDType::F16 | FloatDType::BF16 => 2,
        _ => 4,
    };
    tensor
        .shape
        .iter()
        .fold(bytes, |bytes, &size| bytes * size as u64)
}

/// Writes a model folder: `config.json` and `model.safetensors`, or its shards and their index. All
/// files appear completely or not at all, and a folder created for them is removed after a failure;
/// existing weights are replaced. One tensor is in memory at a time.
///
/// # Errors
/// If the disk fails; if a tensor is not [`finite`](SaveOptions::finite) or out of the type's
/// range; if a name occurs twice.
pub fn save_model<'a, T: Into<NamedTensor<'a>>>(
    dir: &Path,
    config_json: &str,
    tensors: impl IntoIterator<Item = T>,
    options: &SaveOptions,
) -> Result<()> {
    let tensors = tensors.into_iter().map(Into::into).collect();
    let created: Vec<_> = dir.ancestors().take_while(|path| !path.exists()).collect();
    let written = fs::create_dir_all(dir)
        .map_err(ModelError::io(dir))
        .and_then(|()| write_folder(dir, config_json, tensors, options));
    if written.is_err() {
        for path in created {
            // It may be empty by now; if it holds others' files, it stays.
            let _ = fs::remove_dir(path);
        }
    }
    written
}

fn write_folder(
    dir: &Path,
    config_json: &str,
    tensors: Vec<NamedTensor>,
    options: &SaveOptions,
) -> Result<()> {
    refuse_twins(&dir.join(WEIGHTS), &tensors)?;
    let text = |name: &str, text: &str| {
        let path = dir.join(name);
        let file = temporary_file(&path).map_err(ModelError::io(dir))?;
        let written = file.as_file().write_all(text.as_bytes());
        written.map_err(ModelError::io(&path))?;
        Ok::<_, ModelError>((file, path))
    };
    let config = text(CONFIG, config_json)?;
    let shards = Shards::new(tensors, options);
    let index = shards.index.map(|index| text(INDEX, &index)).transpose()?;
    let mut files = Vec::new();
    for (name, tensors) in shards.files {
        let path = dir.join(name);
        let file = temporary_file(&path).map_err(ModelError::io(dir))?;
        let mut out = BufWriter::with_capacity(1 << 20, file.as_file());
        safetensors::write(&mut out, &path, tensors, options)?;
        out.flush().map_err(ModelError::io(&path))?;
        drop(out);
        files.push((file, path));
    }
    files.extend(index);
    let kept: Vec<_> = files.iter().map(|(_, path)| path.clone()).collect();
    for (file, path) in files {
        put(file, &path).map_err(ModelError::io(&path))?;
    }
    // A single file takes precedence over an index when read: the old one must not be taken for
    // these weights.
    for old in weight_files(dir).map_err(ModelError::io(dir))? {
        if !kept.contains(&old) {
            fs::remove_file(&old).map_err(ModelError::io(&old))?;
        }
    }
    let (config, path) = config;
    put(config, &path).map_err(ModelError::io(&path))
}

fn refuse_twins(path: &Path, tensors: &[NamedTensor]) -> Result<()> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => {
            let (path, name) = (path.to_path_buf(), pair[0].to_string());
            Err(WeightsError::Twice { path, name }.into())
        }
    }
}
