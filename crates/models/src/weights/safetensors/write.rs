//! One safetensors file, written tensor by tensor.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use burn::tensor::{DType, FloatDType, TensorData, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use crate::error::{ModelError, Result};
use crate::weights::{NamedTensor, SaveOptions, WeightsError, size_of};

/// Writes tensors to `out`, sorted by name, with the metadata that transformers requires; `path` is
/// for messages.
pub(in crate::weights) fn write(
    out: &mut impl Write,
    path: &Path,
    mut tensors: Vec<NamedTensor>,
    options: &SaveOptions,
) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let header = header(&tensors, options.dtype);
    let header = header.map_err(|error| ModelError::file(path, error.to_string()))?;
    write_all(out, path, &(header.len() as u64).to_le_bytes())?;
    write_all(out, path, &header)?;
    for tensor in tensors {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        let data = tensor.load()?;
        if data.shape().as_slice() != shape {
            let error = WeightsError::OtherShape {
                name,
                found: data.shape().to_vec(),
                expected: shape,
            };
            return Err(error.into());
        }
        let data = in_dtype(&name, data, path, options)?;
        write_all(out, path, data.as_bytes())?;
    }
    Ok(())
}

/// A tensor to be written.
fn in_dtype(
    name: &str,
    data: TensorData,
    path: &Path,
    options: &SaveOptions,
) -> Result<TensorData> {
    let name = name.to_string();
    let data = data.convert_dtype(DType::F32);
    let values = match data.as_slice::<f32>() {
        Ok(values) => values,
        Err(error) => {
            let reason = error.to_string();
            return Err(WeightsError::NoNumbers { name, reason }.into());
        }
    };
    let path = path.to_path_buf();
    if options.finite
        && let Some(index) = values.iter().position(|value| !value.is_finite())
    {
        let error = WeightsError::NotFinite {
            name,
            index,
            value: values[index],
            path,
        };
        return Err(error.into());
    }
    if options.dtype == FloatDType::F16 {
        let is_beyond = |value: &&f32| value.is_finite() && !f16::from_f32(**value).is_finite();
        if let Some(&value) = values.iter().find(is_beyond) {
            let error = WeightsError::OutOfRange {
                name,
                value,
                most: "float16's largest number, 65504",
                path,
            };
            return Err(error.into());
        }
    }
    Ok(data.convert_dtype(options.dtype.into()))
}

/// The header, padded with spaces to a multiple of eight bytes.
fn header(
    tensors: &[NamedTensor],
    dtype: FloatDType,
) -> std::result::Result<Vec<u8>, SafeTensorError> {
    let mut offset = 0;
    let entry = |tensor: &NamedTensor| {
        let start = offset;
        offset += size_of(tensor, dtype) as usize;
        let info = TensorInfo {
            dtype: match dtype {
                FloatDType::F16 => Dtype::F16,
                FloatDType::BF16 => Dtype::BF16,
                _ => Dtype::F32,
            },
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
        // Name the file: the system's message only says "No space left on device".
        let kind = source.kind();
        let source = io::Error::new(kind, format!("could not be written: {source}"));
        ModelError::io(path)(source)
    })
}
