//! A file's tensors, under transformers' names and in transformers' arrangement.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::FloatDType;
use burn_peft_kernels::{BlockType, BlockWeight};
use half::{bf16, f16};

use super::Gguf;
use super::architecture::Architecture;
use super::change::Change;
use super::config::Keys;
use super::file::TensorInfo;
use super::types::GgmlType;
use crate::error::Result;
use crate::weights::{Weights, WeightsError};

/// The weights of a GGUF file.
#[derive(Debug)]
pub(crate) struct GgufWeights {
    file: Arc<Gguf>,
    tensors: BTreeMap<String, Entry>,
    /// Tensors of one value that the file stores as keys.
    scalars: BTreeMap<String, f32>,
}

#[derive(Debug)]
struct Entry {
    /// Its name in the file.
    name: String,
    shape: Vec<usize>,
    change: Change,
}

impl GgufWeights {
    /// The weights of a file of this architecture.
    pub(super) fn new(file: Arc<Gguf>, of: &'static Architecture) -> Result<Self> {
        let keys = Keys {
            file: &file,
            prefix: of.name,
        };
        let heads = keys.heads()?;
        let mut tensors = BTreeMap::new();
        for (name, info) in &file.tensors {
            // The configuration has them.
            if name.starts_with("rope_f") {
                continue;
            }
            let change = Change::of(of.changes, name, info.shape.len(), heads);
            let multiple = change.multiple();
            if multiple == 0 || !info.shape[0].is_multiple_of(multiple) {
                return Err(file.error(format!(
                    "tensor {name} is {:?}: its rows are not a multiple of {multiple}, which {}'s heads \
                     require",
                    info.shape, of.name
                )));
            }
            let mut shape = info.shape.clone();
            if change == Change::Turned {
                shape.reverse();
            }
            let entry = |shape: Vec<usize>, change| Entry {
                name: name.clone(),
                shape,
                change,
            };
            let here = of.rename(name);
            let Some((start, end)) = here.split_once('*') else {
                tensors.insert(here, entry(shape, change));
                continue;
            };
            for at in 0..shape[0] {
                let row = entry(shape[1..].to_vec(), Change::Row { at });
                tensors.insert(format!("{start}{at}{end}"), row);
            }
        }
        let scalars = scalars(&keys, of)?;
        Ok(Self {
            file,
            tensors,
            scalars,
        })
    }

    fn entry(&self, name: &str) -> Result<(&Entry, &TensorInfo)> {
        let missing = || WeightsError::NoTensor {
            files: self.file.path().display().to_string(),
            name: name.to_string(),
        };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        Ok((entry, &self.file.tensors[&entry.name]))
    }
}

impl Gguf {
    /// How a tensor's blocks are read.
    fn blocks(&self, name: &str) -> Result<BlockType> {
        let of = self.tensors[name].of;
        of.blocks.ok_or_else(|| {
            self.error(format!(
                "tensor {name} is {}, which is not supported; supported: {}",
                of.name,
                GgmlType::readable()
            ))
        })
    }

    /// All values of a small tensor that exists.
    pub(super) fn values(&self, name: &str) -> Result<Vec<f32>> {
        let (info, of) = (&self.tensors[name], self.blocks(name)?);
        let mut values = Vec::with_capacity(info.shape.iter().product());
        add(self.bytes(info), of, &mut values);
        Ok(values)
    }
}

/// The learnt activations of Apertus: two numbers a block.
fn scalars(keys: &Keys, of: &Architecture) -> Result<BTreeMap<String, f32>> {
    let mut scalars = BTreeMap::new();
    if of.name != "apertus" {
        return Ok(scalars);
    }
    let blocks = keys.size("block_count")?;
    for (part, only) in [
        ("alpha_p", None),
        ("alpha_n", None),
        ("beta", Some(0.5)),
        ("eps", Some(-1e-6)),
    ] {
        let key = format!("xielu.{part}");
        let values = keys.file.numbers(&key)?;
        let values = values.ok_or_else(|| keys.file.missing(&key))?;
        if values.len() as u64 != blocks {
            let found = values.len();
            return Err(keys.file.error(format!(
                "{key} has {found} entries and apertus.block_count = {blocks}"
            )));
        }
        for (block, value) in values.into_iter().enumerate() {
            match only {
                // It may have been rounded to 16 bits.
                Some(only) if value.is_nan() || (value - only).abs() > 0.01 * f64::abs(only) => {
                    return Err(keys.file.error(format!(
                        "{key} is {value} for block {block}: only {only} is supported"
                    )));
                }
                Some(_) => {}
                None => {
                    let name = format!("{}.{block}.mlp.act_fn.{part}", of.blocks);
                    scalars.insert(name, value as f32);
                }
            }
        }
    }
    Ok(scalars)
}

/// Appends the values of whole blocks.
fn add(bytes: &[u8], of: BlockType, values: &mut Vec<f32>) {
    let start = values.len();
    values.resize(start + bytes.len() / of.bytes() * of.values(), 0.0);
    of.dequantize(bytes, &mut values[start..]);
}

impl Weights for GgufWeights {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.extend(self.scalars.keys().map(String::as_str));
        names.sort();
        Box::new(names.into_iter())
    }

    fn dtype(&self) -> FloatDType {
        // Quantised types are not written as weights: they become 32 bits.
        let mut bytes = [FloatDType::F16, FloatDType::BF16, FloatDType::F32].map(|of| (of, 0));
        for info in self.file.tensors.values() {
            let [f16, bf16, f32] = &mut bytes;
            let (_, of_type) = match info.of.name {
                "F16" => f16,
                "BF16" => bf16,
                _ => f32,
            };
            *of_type += info.end - info.start;
        }
        let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
        most.map_or(FloatDType::F32, |(dtype, _)| dtype)
    }

    fn written_dtype(&self) -> Result<FloatDType> {
        let dtype = self.dtype();
        let round: fn(f32) -> f32 = match dtype {
            FloatDType::F16 => |value| f16::from_f32(value).to_f32(),
            FloatDType::BF16 => |value| bf16::from_f32(value).to_f32(),
            _ => return Ok(dtype),
        };
        for (name, entry) in &self.tensors {
            let (_, info) = self.entry(name)?;
            if info.of.name != "F32" {
                continue;
            }
            // The model adds the one again that is subtracted here.
            let one = f32::from(u8::from(entry.change == Change::MinusOne));
            let mut is_exact = true;
            self.read(name, 1 << 16, &mut |values| {
                is_exact &= values
                    .iter()
                    .all(|value| round(*value) + one == value + one);
            })?;
            if !is_exact {
                return Ok(FloatDType::F32);
            }
        }
        Ok(dtype)
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        if self.scalars.contains_key(name) {
            return Some(&[1]);
        }
        Some(&self.tensors.get(name)?.shape)
    }

    fn read(&self, name: &str, piece: usize, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        self.check(name)?;
        if let Some(&value) = self.scalars.get(name) {
            visit(&[value]);
            return Ok(());
        }
        let (entry, info) = self.entry(name)?;
        let (of, bytes) = (self.file.blocks(&entry.name)?, self.file.bytes(info));
        let piece = piece.max(1);
        let row = match info.shape.as_slice() {
            [] | [_] => 1,
            [_, rest @ ..] => rest.iter().product(),
        };
        let mut values = Vec::new();
        let mut out = |values: &mut Vec<f32>, is_end: bool| {
            while values.len() >= piece {
                visit(&values[..piece]);
                values.drain(..piece);
            }
            if is_end && !values.is_empty() {
                visit(values);
            }
        };
        match entry.change {
            Change::Nothing | Change::MinusOne => {
                // As many blocks as fill a piece, usually up to the last value.
                let step = piece.div_ceil(info.of.values) * info.of.bytes;
                for from in (0..bytes.len()).step_by(step) {
                    let to = bytes.len().min(from + step);
                    let start = values.len();
                    add(&bytes[from..to], of, &mut values);
                    if entry.change == Change::MinusOne {
                        values[start..].iter_mut().for_each(|value| *value -= 1.0);
                    }
                    out(&mut values, false);
                    self.file.forget(info, from, to);
                }
            }
            Change::Turned => {
                let all = self.file.values(&entry.name)?;
                for column in 0..row {
                    values.extend(all.iter().skip(column).step_by(row));
                    out(&mut values, false);
                }
            }
            Change::Row { at } => {
                let size = row / info.of.values * info.of.bytes;
                add(&bytes[at * size..][..size], of, &mut values);
            }
            Change::Woven { .. } | Change::Apart { .. } => {
                let (rows, size) = (info.shape[0], row / info.of.values * info.of.bytes);
                for place in 0..rows {
                    let from = size * entry.change.row(place, rows);
                    add(&bytes[from..from + size], of, &mut values);
                    out(&mut values, false);
                }
            }
        }
        out(&mut values, true);
        self.file.forget(info, 0, bytes.len());
        Ok(())
    }

    fn blocks(&self, name: &str) -> Result<Option<BlockWeight>> {
        self.check(name)?;
        let (entry, info) = self.entry(name)?;
        let (of, &[rows, columns]) = (self.file.blocks(&entry.name)?, info.shape.as_slice()) else {
            return Ok(None);
        };
        let bytes = match entry.change {
            Change::MinusOne | Change::Row { .. } => return Ok(None),
            // A transposed matrix is read the other way round.
            Change::Nothing | Change::Turned => self.file.shared(info),
            Change::Woven { .. } | Change::Apart { .. } => {
                let (bytes, size) = (self.file.bytes(info), columns / of.values() * of.bytes());
                let mut moved = Vec::with_capacity(bytes.len());
                for place in 0..rows {
                    let from = size * entry.change.row(place, rows);
                    moved.extend(&bytes[from..from + size]);
                }
                self.file.forget(info, 0, bytes.len());
                moved.into()
            }
        };
        Ok(Some(BlockWeight::new(of, bytes, [rows, columns])))
    }

    fn are_equal(&self, a: &str, b: &str) -> Result<bool> {
        if self.check(a)? != self.check(b)? {
            return Ok(false);
        }
        if self.scalars.contains_key(a) || self.scalars.contains_key(b) {
            return Ok(self.tensor(a)? == self.tensor(b)?);
        }
        let bytes = |name: &str| -> Result<_> {
            let (entry, info) = self.entry(name)?;
            Ok((info.of.name, entry.change, self.file.bytes(info)))
        };
        Ok(bytes(a)? == bytes(b)? || self.tensor(a)? == self.tensor(b)?)
    }

    fn check(&self, name: &str) -> Result<&[usize]> {
        if self.scalars.contains_key(name) {
            return Ok(&[1]);
        }
        let (entry, info) = self.entry(name)?;
        self.file.blocks(&entry.name)?;
        let rows_are_blocks = info.shape.len() > 1 || info.of.values == 1;
        match entry.change {
            Change::Woven { .. } | Change::Apart { .. } | Change::Row { .. }
                if !rows_are_blocks =>
            {
                let (name, of) = (&entry.name, info.of.name);
                Err(self.file.error(format!(
                    "tensor {name} is {of}, and rows of one value do not fit its blocks"
                )))
            }
            _ => Ok(&entry.shape),
        }
    }
}
