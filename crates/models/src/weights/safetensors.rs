//! Weights in safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use burn_peft::tensor_file::{explain, to_f32};
use burn_peft_files::read_text;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::mapped::Mapped;
use super::{INDEX, WEIGHTS, Weights, WeightsError};
use crate::error::{ModelError, Result};
use crate::hub::ModelFiles;

mod write;

pub(super) use write::write;

/// The weights of a model folder, mapped into memory: `model.safetensors`, or the shards listed in
/// `model.safetensors.index.json`.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    /// Tensor name to its shard.
    tensors: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens the weights and checks every header against its file; no tensor is read yet.
    ///
    /// # Errors
    /// If there are no weights, a file is truncated or its header is wrong, or an index does not
    /// match its shards. Each error names the file.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        if let Some(path) = files.find(WEIGHTS)? {
            let shard = Shard::open(path)?;
            let tensors = shard.names().map(|name| (name, 0)).collect();
            return Ok(Self {
                shards: vec![shard],
                tensors,
            });
        }
        match files.find(INDEX)? {
            Some(index) => Self::open_shards(files, &index),
            None => Err(files.missing(WEIGHTS)),
        }
    }

    fn open_shards(files: &ModelFiles, index: &Path) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let text = read_text(index)?;
        let Index { weight_map } = serde_json::from_str(&text).map_err(|error| {
            ModelError::file(
                index,
                format!("is not an index of safetensors shards: {error}"),
            )
        })?;
        let mut checkpoint = Self {
            shards: Vec::new(),
            tensors: BTreeMap::new(),
        };
        let mut opened = HashMap::new();
        for (name, file) in weight_map {
            let number = match opened.get(&file) {
                Some(&number) => number,
                None => {
                    if file.contains(['/', '\\']) {
                        let reason = format!("names a shard outside its folder: {file:?}");
                        return Err(ModelError::file(index, reason));
                    }
                    checkpoint.shards.push(Shard::open(files.get(&file)?)?);
                    opened.insert(file, checkpoint.shards.len() - 1);
                    checkpoint.shards.len() - 1
                }
            };
            let shard = &checkpoint.shards[number];
            if shard.metadata.info(&name).is_none() {
                let reason = format!("has no tensor `{name}`, though {} says so", index.display());
                return Err(ModelError::file(shard.file.path(), reason));
            }
            checkpoint.tensors.insert(name, number);
        }
        Ok(checkpoint)
    }

    fn entry(&self, name: &str) -> Option<(&Shard, &TensorInfo)> {
        let shard = &self.shards[*self.tensors.get(name)?];
        Some((shard, shard.metadata.info(name)?))
    }
}

impl Weights for Checkpoint {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn dtype(&self) -> FloatDType {
        let mut bytes = [
            (FloatDType::F16, 0),
            (FloatDType::BF16, 0),
            (FloatDType::F32, 0),
        ];
        for (_, info) in self.tensors.keys().filter_map(|name| self.entry(name)) {
            let [f16, bf16, f32] = &mut bytes;
            let (_, of_type) = match info.dtype {
                Dtype::F16 => f16,
                Dtype::BF16 => bf16,
                Dtype::F32 => f32,
                _ => continue,
            };
            let (start, end) = info.data_offsets;
            *of_type += end - start;
        }
        // The last of equal counts, which is the widest type.
        let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
        most.map_or(FloatDType::F32, |(dtype, _)| dtype)
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        let (_, info) = self.entry(name)?;
        Some(&info.shape)
    }

    fn read(&self, name: &str, piece: usize, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        self.check(name)?;
        let (shard, info) = self.entry(name).expect("it was checked");
        let (start, end) = info.data_offsets;
        let step = piece.max(1) * info.dtype.bitsize() / 8;
        for from in (start..end).step_by(step) {
            let to = end.min(from + step);
            let values = to_f32(info.dtype, &shard.data()[from..to]);
            visit(&values.expect("it was checked"));
            shard.forget((from, to));
        }
        // The system maps some pages around those that are requested, including released ones.
        shard.forget((start, end));
        Ok(())
    }

    fn are_equal(&self, a: &str, b: &str) -> Result<bool> {
        if self.check(a)? != self.check(b)? {
            return Ok(false);
        }
        let bytes = |name: &str| {
            let (shard, info) = self.entry(name).expect("it was checked");
            let (start, end) = info.data_offsets;
            (info.dtype, &shard.data()[start..end])
        };
        if bytes(a) == bytes(b) {
            return Ok(true);
        }
        Ok(self.tensor(a)? == self.tensor(b)?)
    }

    fn check(&self, name: &str) -> Result<&[usize]> {
        let (shard, info) = self.entry(name).ok_or_else(|| {
            let files: Vec<_> = self
                .shards
                .iter()
                .map(|s| s.file.path().display().to_string())
                .collect();
            WeightsError::NoTensor {
                files: files.join(", "),
                name: name.to_string(),
            }
        })?;
        match to_f32(info.dtype, &[]) {
            Some(_) => Ok(&info.shape),
            None => {
                let error = WeightsError::Dtype {
                    path: shard.file.path().to_path_buf(),
                    name: name.to_string(),
                    dtype: info.dtype,
                };
                Err(error.into())
            }
        }
    }
}

/// One safetensors file.
#[derive(Debug)]
struct Shard {
    file: Mapped,
    /// The position where the tensors begin.
    start: usize,
    metadata: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let file = Mapped::open(path)?;
        let (header, metadata) = SafeTensors::read_metadata(&file)
            .map_err(|error| ModelError::file(file.path(), explain(&file, &error)))?;
        Ok(Self {
            file,
            start: 8 + header,
            metadata,
        })
    }

    fn data(&self) -> &[u8] {
        &self.file[self.start..]
    }

    fn forget(&self, (start, end): (usize, usize)) {
        self.file.forget(self.start + start, self.start + end);
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.metadata.offset_keys().into_iter()
    }
}
