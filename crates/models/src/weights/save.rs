//! Model folders, written.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use burn::tensor::DType;
use burn_peft_files::atomic::{put, temporary_file};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use super::{CONFIG, NamedTensor, WEIGHTS};
use crate::error::{ModelError, Result};

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
pub(super) fn write_tensors(
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
