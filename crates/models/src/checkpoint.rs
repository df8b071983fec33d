//! Hugging Face model folders as named tensors on the host: what every family loads from and
//! writes to.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use burn_peft::tensor_file::{explain, to_f32};
use burn_peft_files::atomic::{put, temporary_file};
use burn_peft_files::read_text;
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::error::{ModelError, Result};
use crate::hub::ModelFiles;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";

/// The weights of a model folder, mapped into memory: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` lists.
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
    /// No weights, a file that is truncated or whose header lies, an index that does not fit its
    /// shards. Each names the file.
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
                return Err(ModelError::file(&shard.path, reason));
            }
            checkpoint.tensors.insert(name, number);
        }
        Ok(checkpoint)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let (_, info) = self.entry(name)?;
        Some(&info.shape)
    }

    /// A tensor in float32, converted from F32, F16 or BF16.
    ///
    /// # Errors
    /// No tensor of this name, or one of another type.
    pub fn tensor(&self, name: &str) -> Result<TensorData> {
        self.check(name)?;
        let (shard, info) = self.entry(name).expect("it was checked");
        let bytes = &shard.data()[info.data_offsets.0..info.data_offsets.1];
        let values = to_f32(info.dtype, bytes).expect("it was checked");
        shard.forget(info.data_offsets);
        Ok(TensorData::new(values, info.shape.clone()))
    }

    /// The shape of a tensor that can be read.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn check(&self, name: &str) -> Result<&[usize]> {
        let (shard, info) = self.entry(name).ok_or_else(|| {
            let files: Vec<_> = self
                .shards
                .iter()
                .map(|s| s.path.display().to_string())
                .collect();
            ModelError::Weights(format!("{}: no tensor `{name}`", files.join(", ")))
        })?;
        match to_f32(info.dtype, &[]) {
            Some(_) => Ok(&info.shape),
            None => {
                let dtype = info.dtype;
                let reason =
                    format!("tensor `{name}` is {dtype:?}; weights are read from F32, F16 or BF16");
                Err(ModelError::file(&shard.path, reason))
            }
        }
    }

    /// Whether two tensors have the same shape and values.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn are_equal(&self, a: &str, b: &str) -> Result<bool> {
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

    fn entry(&self, name: &str) -> Option<(&Shard, &TensorInfo)> {
        let shard = &self.shards[*self.tensors.get(name)?];
        Some((shard, shard.metadata.info(name)?))
    }
}

/// One safetensors file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Mmap,
    /// Where the tensors begin.
    start: usize,
    metadata: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(ModelError::io(&path))?;
        // SAFETY: the map is only read. Who shortens the file meanwhile stops the process, as
        // with every program that maps weights; this crate replaces files, it never shortens one.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(&path))?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|error| ModelError::file(&path, explain(&map, &error)))?;
        Ok(Self {
            path,
            map,
            start: 8 + header,
            metadata,
        })
    }

    fn data(&self) -> &[u8] {
        &self.map[self.start..]
    }

    /// Gives the memory of a tensor that was copied back, lest the file lie there beside the copy.
    fn forget(&self, (start, end): (usize, usize)) {
        #[cfg(unix)]
        // SAFETY: the map is of a file and never written to: what is read again comes from it.
        let _advice_only = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map
                .unchecked_advise_range(advice, self.start + start, end - start)
        };
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.metadata.offset_keys().into_iter()
    }
}

/// A named tensor whose values are made or fetched only when they are written, so that a model is
/// never held a second time.
pub struct NamedTensor<'a> {
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Vec<usize>,
    load: Box<dyn FnOnce() -> Result<TensorData> + 'a>,
}

impl<'a> NamedTensor<'a> {
    /// A tensor of this name and shape with the values that `load` returns.
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        load: impl FnOnce() -> Result<TensorData> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            load: Box::new(load),
        }
    }

    /// The values.
    pub fn load(self) -> Result<TensorData> {
        (self.load)()
    }
}

impl From<(String, TensorData)> for NamedTensor<'_> {
    fn from((name, data): (String, TensorData)) -> Self {
        Self::new(name, data.shape().to_vec(), move || Ok(data))
    }
}

/// Writes a model folder: `config.json` and `model.safetensors` (float32, sorted by name, with the
/// metadata transformers asks for). Both appear whole or not at all, and a folder made for them
/// goes away again after a failure.
///
/// # Errors
/// The disk's; with `finite`, the first tensor that holds a NaN or an infinity; a name that comes
/// twice.
pub fn save_model<'a, T: Into<NamedTensor<'a>>>(
    dir: &Path,
    config_json: &str,
    tensors: impl IntoIterator<Item = T>,
    finite: bool,
) -> Result<()> {
    let tensors = tensors.into_iter().map(Into::into).collect();
    let created: Vec<_> = dir.ancestors().take_while(|path| !path.exists()).collect();
    let written = fs::create_dir_all(dir)
        .map_err(ModelError::io(dir))
        .and_then(|()| write_folder(dir, config_json, tensors, finite));
    if written.is_err() {
        for path in created {
            // Empty by now, or someone else's by now: then it stays.
            let _ = fs::remove_dir(path);
        }
    }
    written
}

fn write_folder(
    dir: &Path,
    config_json: &str,
    tensors: Vec<NamedTensor>,
    finite: bool,
) -> Result<()> {
    let (config_path, weights_path) = (dir.join(CONFIG), dir.join(WEIGHTS));
    let config = temporary_file(&config_path).map_err(ModelError::io(dir))?;
    config
        .as_file()
        .write_all(config_json.as_bytes())
        .map_err(ModelError::io(&config_path))?;
    let weights = temporary_file(&weights_path).map_err(ModelError::io(dir))?;
    let mut out = BufWriter::with_capacity(1 << 20, weights.as_file());
    write_tensors(&mut out, &weights_path, tensors, finite)?;
    out.flush().map_err(ModelError::io(&weights_path))?;
    drop(out);
    put(weights, &weights_path).map_err(ModelError::io(&weights_path))?;
    put(config, &config_path).map_err(ModelError::io(&config_path))
}

/// Writes a safetensors file to `out`; `path` is for the messages.
fn write_tensors(
    out: &mut impl Write,
    path: &Path,
    mut tensors: Vec<NamedTensor>,
    finite: bool,
) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let reason = format!("tensor `{}` would be written twice", pair[0].name);
        return Err(ModelError::file(path, reason));
    }
    let header = header(&tensors).map_err(|error| ModelError::file(path, error.to_string()))?;
    write_all(out, path, &(header.len() as u64).to_le_bytes())?;
    write_all(out, path, &header)?;
    for tensor in tensors {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        let data = tensor.load()?.convert_dtype(DType::F32);
        if data.shape().as_slice() != shape {
            let got = data.shape().to_vec();
            let reason = format!("tensor `{name}` has shape {got:?}, not {shape:?}");
            return Err(ModelError::Weights(reason));
        }
        let values = data
            .as_slice::<f32>()
            .map_err(|error| ModelError::Weights(format!("tensor `{name}`: {error}")))?;
        if finite && let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::Weights(format!(
                "tensor `{name}` is not finite: value {at} is {}; nothing was written to {}",
                values[at],
                path.display()
            )));
        }
        write_all(out, path, data.as_bytes())?;
    }
    Ok(())
}

/// The header, filled up with spaces to a multiple of eight bytes.
fn header(tensors: &[NamedTensor]) -> std::result::Result<Vec<u8>, SafeTensorError> {
    let mut offset = 0;
    let entry = |tensor: &NamedTensor| {
        let start = offset;
        offset += 4 * tensor.shape.iter().product::<usize>();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
            data_offsets: (start, offset),
        };
        (tensor.name.clone(), info)
    };
    let entries = tensors.iter().map(entry).collect();
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(format), entries)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn write_all(out: &mut impl Write, path: &Path, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|source| {
        // Say what is lost: the message alone reads "No space left on device".
        let kind = source.kind();
        let source = io::Error::new(kind, format!("could not be written: {source}"));
        ModelError::io(path)(source)
    })
}

#[cfg(test)]
mod tests;
