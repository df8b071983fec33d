//! Tensors in safetensors files, of adapters and of models.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use indexmap::IndexMap;
use safetensors::tensor::{TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use burn_peft_files::{atomic, foreign};

use crate::{PeftError, Result};

/// The tensors of a safetensors file as 32-bit floats, by key.
///
/// # Errors
/// If the file is missing or truncated, its header is wrong, or it holds anything but F32, F16,
/// BF16, and the I32 of indices.
pub fn read_tensors(path: &Path) -> Result<IndexMap<String, TensorData>> {
    let bytes = fs::read(path).map_err(|source| PeftError::io(path, source))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| PeftError::file(path, explain(&bytes, &error)))?;
    let mut tensors = IndexMap::new();
    for (key, view) in file.iter() {
        let dtype = view.dtype();
        let values = match dtype {
            Dtype::I32 => Some(indices(view.data())),
            dtype => to_f32(dtype, view.data()),
        };
        let values = values.ok_or_else(|| {
            let reason = format!("the tensor {key} is {dtype:?}; supported: F32, F16 and BF16");
            PeftError::file(path, reason)
        })?;
        tensors.insert(
            key.to_string(),
            TensorData::new(values, view.shape().to_vec()),
        );
    }
    tensors.sort_keys();
    Ok(tensors)
}

/// Integers as floats, which are exact up to 2²⁴.
fn indices(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|&word| i32::from_le_bytes(word) as f32).collect()
}

/// The little-endian numbers of a file as 32-bit floats; `None` if `dtype` is not F32, F16 or BF16.
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let words = || bytes.as_chunks::<4>().0.iter();
    let halves = || bytes.as_chunks::<2>().0.iter();
    Some(match dtype {
        Dtype::F32 => words().map(|&word| f32::from_le_bytes(word)).collect(),
        Dtype::F16 => halves()
            .map(|&half| half::f16::from_le_bytes(half).to_f32())
            .collect(),
        Dtype::BF16 => halves()
            .map(|&half| half::bf16::from_le_bytes(half).to_f32())
            .collect(),
        _ => return None,
    })
}

/// Writes tensors of 32-bit floats, and of integers of 32 or 64 bits, as PyTorch's safetensors
/// files (`format: pt`).
///
/// # Errors
/// If the file cannot be written; no partial file is left behind.
pub fn write_tensors(path: &Path, tensors: Vec<(String, TensorData)>) -> Result<()> {
    let mut views = Vec::with_capacity(tensors.len());
    for (key, data) in &tensors {
        let dtype = match data.dtype() {
            DType::I32 => Dtype::I32,
            DType::I64 => Dtype::I64,
            other => {
                debug_assert_eq!(other, DType::F32);
                Dtype::F32
            }
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        let view = view.map_err(|error| PeftError::file(path, format!("{key}: {error}")))?;
        views.push((key.as_str(), view));
    }
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| PeftError::file(path, error.to_string()))?;
    atomic::write(path, &bytes).map_err(|source| PeftError::io(path, source))
}

/// The transpose of a matrix of 32-bit floats.
///
/// # Panics
/// If the data are not a matrix of 32-bit floats.
pub fn transpose(data: TensorData) -> TensorData {
    let [rows, columns] = [data.shape()[0], data.shape()[1]];
    let values = data.as_slice::<f32>().expect("f32 values");
    let mut transposed = Vec::with_capacity(values.len());
    for column in 0..columns {
        transposed.extend((0..rows).map(|row| values[row * columns + column]));
    }
    TensorData::new(transposed, [columns, rows])
}

/// The data of a parameter as in files: transposed or not.
pub(crate) fn oriented(data: TensorData, is_transposed: bool) -> TensorData {
    if is_transposed { transpose(data) } else { data }
}

/// Describes what is wrong with the bytes of a safetensors file, with the numbers that the messages
/// of the safetensors crate lack.
pub fn explain(bytes: &[u8], error: &SafeTensorError) -> String {
    if let Some(problem) = foreign(bytes) {
        return problem.into();
    }
    let length = bytes.len();
    let claimed = bytes
        .first_chunk()
        .map_or(0, |&word| u64::from_le_bytes(word));
    let detail = match error {
        SafeTensorError::HeaderTooSmall => {
            format!("the file has {length} bytes, too few for a header")
        }
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            format!("the file claims a header of {claimed} bytes and has {length} bytes in all")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            let tensors = header_entries(bytes, claimed);
            let end = tensors
                .values()
                .map(|info| info.data_offsets.1)
                .max()
                .unwrap_or(0);
            let expected = 8 + claimed + end as u64;
            format!("its header describes {expected} bytes, the file has {length}")
        }
        SafeTensorError::TensorInvalidInfo => {
            let mut tensors = header_entries(bytes, claimed).into_iter();
            match tensors.find(|(_, info)| !size_fits(info)) {
                Some((name, info)) => format!(
                    "tensor `{name}` of type {:?} and shape {:?} does not fill bytes {}..{}",
                    info.dtype, info.shape, info.data_offsets.0, info.data_offsets.1
                ),
                None => String::new(),
            }
        }
        _ => String::new(),
    };
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(" ({detail})")
    };
    format!("is not a whole safetensors file: {error}{detail}; fetch or write it again")
}

/// The header's entries, as far as they can be read.
fn header_entries(bytes: &[u8], header: u64) -> BTreeMap<String, TensorInfo> {
    let end = usize::try_from(header)
        .unwrap_or(usize::MAX)
        .saturating_add(8);
    let json = bytes.get(8..end).unwrap_or_default();
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(json).unwrap_or_default();
    let infos = entries
        .into_iter()
        .filter_map(|(name, info)| Some((name, serde_json::from_value(info).ok()?)));
    infos.collect()
}

fn size_fits(info: &TensorInfo) -> bool {
    let (start, end) = info.data_offsets;
    let bits = info
        .shape
        .iter()
        .try_fold(info.dtype.bitsize(), |n, &size| n.checked_mul(size));
    bits.is_some_and(|bits| end.checked_sub(start) == Some(bits / 8))
}
