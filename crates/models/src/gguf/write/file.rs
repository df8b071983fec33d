//! Writing a GGUF file tensor by tensor.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn_peft_files::atomic::{put, temporary_file};
use burn_peft_kernels::BlockType;
use tempfile::NamedTempFile;

use super::KeyValue;
use super::value::text;
use crate::error::{ModelError, Result};
use crate::gguf::file::ALIGNMENT;
use crate::gguf::types::GgmlType;
use crate::weights::WeightsError;

/// How many values are converted to blocks at a time: a multiple of all block sizes.
pub(super) const PIECE: usize = 1 << 20;

/// A tensor's description, which precedes its values.
pub(super) struct Head {
    pub name: String,
    /// The slowest dimension first.
    pub shape: Vec<usize>,
    pub of: BlockType,
}

/// An unfinished file. It lies beside its destination under a temporary name, and is removed unless
/// it is [finished](Self::finish).
pub(super) struct Writer {
    file: NamedTempFile,
    path: PathBuf,
    /// Its name in errors.
    shown: PathBuf,
    places: BTreeMap<String, Place>,
    blocks: Vec<u8>,
}

struct Place {
    of: BlockType,
    /// The number of values written.
    values: usize,
    /// Where the rest of its bytes goes.
    next: u64,
    end: u64,
}

impl Writer {
    /// Begins a file with its keys and tensor descriptions. Errors call it `shown`.
    pub fn new(
        path: &Path,
        shown: &Path,
        keys: &[(String, KeyValue)],
        tensors: &[Head],
    ) -> Result<Self> {
        let io = ModelError::io(shown);
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((keys.len() as u64).to_le_bytes());
        for (key, value) in keys {
            text(&mut head, key);
            value.write(&mut head);
        }
        let mut offset = 0u64;
        let mut places = BTreeMap::new();
        for Head { name, shape, of } in tensors {
            text(&mut head, name);
            head.extend((shape.len() as u32).to_le_bytes());
            for &size in shape.iter().rev() {
                head.extend((size as u64).to_le_bytes());
            }
            head.extend(GgmlType::number_of(*of).to_le_bytes());
            head.extend(offset.to_le_bytes());
            let values: usize = shape.iter().product();
            let end = offset + (values / of.values() * of.bytes()) as u64;
            let place = Place {
                of: *of,
                values: 0,
                next: offset,
                end,
            };
            places.insert(name.clone(), place);
            offset = end.next_multiple_of(ALIGNMENT);
        }
        let start = (head.len() as u64).next_multiple_of(ALIGNMENT);
        for place in places.values_mut() {
            place.next += start;
            place.end += start;
        }
        let write = || {
            let file = temporary_file(path)?;
            file.as_file().write_all(&head)?;
            // The bytes between tensors are zeros.
            file.as_file().set_len(start + offset)?;
            Ok(file)
        };
        Ok(Self {
            file: write().map_err(io)?,
            path: path.to_path_buf(),
            shown: shown.to_path_buf(),
            places,
            blocks: Vec::new(),
        })
    }

    /// Appends values to a tensor declared in [`new`](Self::new): whole blocks.
    pub fn add(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let place = self.places.get_mut(name).expect("a tensor of the file");
        self.blocks.clear();
        self.blocks
            .resize(values.len() / place.of.values() * place.of.bytes(), 0);
        if let Some((index, value)) = out_of_range(values, place.of) {
            let (name, path) = (name.to_string(), self.shown.clone());
            let index = place.values + index;
            return Err(if value.is_finite() {
                let most = if place.of == BlockType::BF16 {
                    "bfloat16's largest number, 3.39e38"
                } else {
                    "float16's largest number, 65504"
                };
                let error = WeightsError::OutOfRange {
                    name,
                    value,
                    most,
                    path,
                };
                error.into()
            } else {
                let error = WeightsError::NotFinite {
                    name,
                    index,
                    value,
                    path,
                };
                error.into()
            });
        }
        place.of.quantize(values, &mut self.blocks);
        place.values += values.len();
        let blocks = std::mem::take(&mut self.blocks);
        self.add_blocks(name, &blocks)?;
        self.blocks = blocks;
        Ok(())
    }

    /// As [`add`](Self::add), for data already in blocks of the tensor's type.
    pub fn add_blocks(&mut self, name: &str, blocks: &[u8]) -> Result<()> {
        let place = self.places.get_mut(name).expect("a tensor of the file");
        let mut file = self.file.as_file();
        let seek = file.seek(SeekFrom::Start(place.next));
        let written = seek.and_then(|_| file.write_all(blocks));
        written.map_err(ModelError::io(&self.shown))?;
        place.next += blocks.len() as u64;
        Ok(())
    }

    /// Flushes the file to the disk and renames it; returns its size in bytes.
    ///
    /// # Panics
    /// If values of a tensor are missing.
    pub fn finish(self) -> Result<u64> {
        let lacking = self
            .places
            .iter()
            .find(|(_, place)| place.next != place.end);
        assert!(lacking.is_none(), "values of all tensors");
        let about = self.file.as_file().metadata();
        let bytes = about.map_err(ModelError::io(&self.shown))?.len();
        put(self.file, &self.path).map_err(ModelError::io(&self.shown))?;
        Ok(bytes)
    }
}

/// The first value that is not a number, or too large for float16, which block scales also use.
fn out_of_range(values: &[f32], of: BlockType) -> Option<(usize, f32)> {
    let most = match of {
        BlockType::F32 => f32::MAX,
        // The value that rounds to the largest.
        BlockType::BF16 => f32::from_bits(0x7F7F_7FFF),
        BlockType::F16 => 65_519.0,
        _ => 65_504.0,
    };
    let largest = values
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    let is_fine = largest <= most && !values.iter().any(|value| value.is_nan());
    if is_fine {
        return None;
    }
    let mut all = values.iter().copied().enumerate();
    all.find(|(_, value)| value.is_nan() || value.abs() > most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn what_would_be_infinite_is_out_of_range() {
        let next = |value: f32| f32::from_bits(value.to_bits() + 1);
        let is_out = |value: f32, of| out_of_range(&[-value], of).is_some();
        let most = f32::from_bits(0x7F7F_7FFF);
        assert!(bf16::from_f32(most).is_finite() && !is_out(most, BlockType::BF16));
        assert!(!bf16::from_f32(next(most)).is_finite() && is_out(next(most), BlockType::BF16));
        assert!(f16::from_f32(65_519.0).is_finite() && !is_out(65_519.0, BlockType::F16));
        assert!(!f16::from_f32(65_520.0).is_finite() && is_out(65_520.0, BlockType::F16));
        assert!(!is_out(f32::MAX, BlockType::F32));
    }
}
