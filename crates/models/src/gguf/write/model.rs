//! A model as a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use burn_peft_kernels::{BlockType, BlockWeight};
use serde_json::{Map, Value};

use super::file::{Head, PIECE, Writer};
use super::{KeyValue, OutType, Plan, Planned};
use crate::error::{ModelError, Result};
use crate::gguf::tokenizer::TOKENS;
use crate::weights::Weights;

/// What was written.
#[derive(Debug)]
pub struct Contents {
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The types of its tensors by ggml's names, each with the number of tensors and values.
    pub types: Vec<(&'static str, usize, u64)>,
    /// What llama.cpp computes differently from the model, a line for each.
    pub notes: Vec<String>,
}

/// A model to be written.
pub struct GgufModel<'a> {
    /// The object of its `config.json`.
    pub config: &'a Map<String, Value>,
    /// Its weights, under transformers' names; only a few are in memory at a time.
    pub weights: &'a dyn Weights,
    /// Keys in addition to those of the architecture:
    /// [`tokenizer_keys`](super::super::tokenizer_keys) and a name.
    pub keys: Vec<(String, KeyValue)>,
}

impl GgufModel<'_> {
    /// Writes the file completely or not at all. `progress` is called with the number of values
    /// written, and errors call the file `shown`.
    ///
    /// # Errors
    /// If GGUF files cannot hold the model; the error names the key or tensor. If a weight is not
    /// finite, or out of the type's range; if the disk fails.
    pub fn write(
        self,
        path: &Path,
        shown: &Path,
        out_type: OutType,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Contents> {
        let shape = |name: &str| Some((name.to_string(), self.weights.shape(name)?.to_vec()));
        let shapes: BTreeMap<_, _> = self.weights.names().filter_map(shape).collect();
        let plan = Plan::new(self.config, &shapes, &|name| values(self.weights, name))?;
        let described = plan.tensors.iter();
        let described = described.map(|of| (of.name.as_str(), of.shape.as_slice(), of.is_f32));
        let types = out_type.choose(&described.collect::<Vec<_>>());
        let constant = |(name, values): &(String, Vec<f32>)| Head {
            name: name.clone(),
            shape: vec![values.len()],
            of: BlockType::F32,
        };
        let tensor = |(planned, of): (&Planned, BlockType)| Head {
            name: planned.name.clone(),
            shape: planned.shape.clone(),
            of,
        };
        check_tokens(&self.keys, &plan, shown)?;
        let heads = plan.constants.iter().map(constant);
        let heads: Vec<Head> = heads
            .chain(plan.tensors.iter().zip(types.iter().copied()).map(tensor))
            .collect();
        let mut keys = plan.keys;
        let file_type = KeyValue::U32(out_type.file_type());
        keys.push(("general.file_type".to_string(), file_type));
        keys.extend(self.keys);
        let mut writer = Writer::new(path, shown, &keys, &heads)?;
        for (name, values) in &plan.constants {
            writer.add(name, values)?;
        }
        for (planned, of) in plan.tensors.iter().zip(types) {
            if let Some(blocks) = as_it_is(planned, of, self.weights)? {
                add_rows(planned, &blocks, &mut writer)?;
                progress(planned.shape.iter().product::<usize>() as u64);
                continue;
            }
            copy(planned, self.weights, &mut |values| {
                writer.add(&planned.name, values)?;
                progress(values.len() as u64);
                Ok(())
            })?;
        }
        Ok(Contents {
            bytes: writer.finish()?,
            types: counted(&heads),
            notes: plan.notes,
        })
    }
}

/// Rejects a tokenizer whose size differs from the model's vocabulary, which llama.cpp does not
/// read.
fn check_tokens(keys: &[(String, KeyValue)], plan: &Plan, shown: &Path) -> Result<()> {
    let tokens = keys.iter().find(|(key, _)| key == TOKENS);
    let tokens = tokens.and_then(|(_, value)| value.count());
    let mut embeddings = plan.tensors.iter();
    let embedding = embeddings.find(|tensor| tensor.name == "token_embd.weight");
    match (tokens, embedding.map(|tensor| tensor.shape[0])) {
        (Some(tokens), Some(rows)) if tokens != rows => Err(ModelError::file(
            shown,
            format!(
                "{TOKENS} would have {tokens} tokens, and the model has {rows}: --tokenizer names one that \
                 fits"
            ),
        )),
        _ => Ok(()),
    }
}

/// The types of tensors, ordered by the number of values.
pub(super) fn counted(heads: &[Head]) -> Vec<(&'static str, usize, u64)> {
    let mut types: BTreeMap<&'static str, (usize, u64)> = BTreeMap::new();
    for head in heads {
        let (tensors, values) = types.entry(head.of.name()).or_default();
        *tensors += 1;
        *values += head.shape.iter().product::<usize>() as u64;
    }
    let types = types
        .into_iter()
        .map(|(name, (tensors, values))| (name, tensors, values));
    let mut types: Vec<_> = types.collect();
    types.sort_by_key(|&(.., values)| std::cmp::Reverse(values));
    types
}

/// All values of a tensor.
fn values(weights: &dyn Weights, name: &str) -> Result<Vec<f32>> {
    values_of(weights, name, false)
}

fn values_of(weights: &dyn Weights, name: &str, turned: bool) -> Result<Vec<f32>> {
    let data = weights.tensor_in(name, burn::tensor::FloatDType::F32, turned)?;
    Ok(data.try_into_vec().expect("it is in float32"))
}

/// A matrix that is already in blocks of this type, in a GGUF file that the model comes from.
fn as_it_is(
    planned: &Planned,
    of: BlockType,
    weights: &dyn Weights,
) -> Result<Option<BlockWeight>> {
    let [from] = planned.from.as_slice() else {
        return Ok(None);
    };
    let blocks = weights.blocks(from)?;
    Ok(blocks.filter(|blocks| {
        let same = blocks.block_type() == of && blocks.dims()[..] == planned.shape[..];
        same && !planned.turned()
    }))
}

/// Appends the rows of a matrix in the order of the file.
fn add_rows(planned: &Planned, blocks: &BlockWeight, writer: &mut Writer) -> Result<()> {
    if planned.is_in_order() {
        return writer.add_blocks(&planned.name, blocks.bytes());
    }
    let rows = planned.shape[0];
    let size = blocks.bytes().len() / rows;
    let row = |place: usize| &blocks.bytes()[planned.row(place) * size..][..size];
    let ordered: Vec<u8> = (0..rows).flat_map(row).copied().collect();
    writer.add_blocks(&planned.name, &ordered)
}

/// Passes a tensor's values, in the file's arrangement, to `add`, in pieces of whole rows or of
/// [`PIECE`].
fn copy(
    planned: &Planned,
    weights: &dyn Weights,
    add: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    if let ([from], true, false) = (
        planned.from.as_slice(),
        planned.is_in_order(),
        planned.turned(),
    ) {
        let mut result: Result<()> = Ok(());
        let mut piece = Vec::new();
        weights.read(from, PIECE, &mut |values| {
            if result.is_ok() {
                piece.clear();
                piece.extend_from_slice(values);
                planned.adjust(&mut piece);
                result = add(&piece);
            }
        })?;
        return result;
    }
    let mut whole = Vec::new();
    for from in &planned.from {
        whole.append(&mut values_of(weights, from, planned.turned())?);
    }
    planned.adjust(&mut whole);
    let rows = planned.shape[0];
    let width = whole.len() / rows;
    let together = (PIECE / width).max(1);
    let mut piece = Vec::with_capacity(together.min(rows) * width);
    for place in 0..rows {
        let row = planned.row(place) * width;
        piece.extend_from_slice(&whole[row..row + width]);
        if piece.len() == together * width || place + 1 == rows {
            add(&piece)?;
            piece.clear();
        }
    }
    Ok(())
}
