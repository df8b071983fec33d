//! The contents of a model's file, planned before anything is written: keys, and the source of each
//! tensor.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::check::check;
use super::keys::Keys;
use super::limits::{self, HEAD};
use super::value::KeyValue;
use crate::auto::AutoConfig;
use crate::error::{ModelError, Result};
use crate::gguf::architecture::Architecture;
use crate::gguf::change::Change;

/// The contents of a model's file.
#[derive(Debug)]
pub(crate) struct Plan {
    /// llama.cpp's name of the family.
    pub architecture: &'static Architecture,
    /// `general.architecture`, `general.type`, `general.quantization_version`, and all keys with
    /// the architecture's prefix.
    pub keys: Vec<(String, KeyValue)>,
    /// The model's tensors, in the order of the file.
    pub tensors: Vec<Planned>,
    /// Tensors that express parts of the configuration: one dimension, float32.
    pub constants: Vec<(String, Vec<f32>)>,
    /// What llama.cpp computes differently from the model, a line for each.
    pub notes: Vec<String>,
}

/// A tensor of the file, and what it is made from.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file, the slowest dimension first.
    pub shape: Vec<usize>,
    /// The model's tensors that it is made from: usually one; several are concatenated.
    pub from: Vec<String>,
    /// Whether it is always float32, as in llama.cpp.
    pub is_f32: bool,
    change: Change,
}

/// An error about a configuration.
pub(super) fn refused(problem: impl Into<String>) -> ModelError {
    let problem: String = problem.into();
    ModelError::Config {
        path: None,
        problem: problem.into(),
    }
}

impl Planned {
    /// The model's row that is row `place` of the file's tensor; if there are several tensors, or
    /// it is [`turned`](Self::turned), the row of the combined tensor.
    pub fn row(&self, place: usize) -> usize {
        self.change.row_of_model(place, self.shape[0])
    }

    /// Whether all rows are in the model's order.
    pub fn is_in_order(&self) -> bool {
        !matches!(self.change, Change::Woven { .. } | Change::Apart { .. })
    }

    /// Whether the tensor is transposed.
    pub fn turned(&self) -> bool {
        self.change == Change::Turned
    }

    /// Converts the model's values to the file's, in place.
    pub fn adjust(&self, values: &mut [f32]) {
        if self.change == Change::MinusOne {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
    }
}

impl Plan {
    /// The plan of a model's file, from the object of its `config.json` and the `shapes` of its
    /// tensors under their checkpoint names; `values` reads a small tensor.
    ///
    /// # Errors
    /// If llama.cpp has no name for the family or for a tensor, or its files no key for a setting;
    /// the error names it.
    pub fn new(
        config: &Map<String, Value>,
        shapes: &BTreeMap<String, Vec<usize>>,
        values: &dyn Fn(&str) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let model = AutoConfig::from_map(config.clone()).map_err(|problem| ModelError::Config {
            path: None,
            problem,
        })?;
        let model_type = config.get("model_type").and_then(Value::as_str);
        let model_type = model_type.unwrap_or_default();
        let of = Architecture::of_model(model_type).ok_or_else(|| {
            let models = Architecture::models();
            refused(format!(
                "model_type = {model_type:?} cannot be written as a GGUF file; supported: {models}"
            ))
        })?;
        let keys = Keys::of(of, &model, shapes, values)?;
        let mut plan = Self {
            architecture: of,
            keys: keys.keys,
            tensors: planned(of, &model, shapes)?,
            constants: keys.constants,
            notes: Vec::new(),
        };
        plan.notes = check(&plan, &model)?;
        Ok(plan)
    }

    /// The file's tensor that contains a tensor of the model, possibly with others.
    pub fn tensor(&self, name: &str) -> Option<&Planned> {
        let mut tensors = self.tensors.iter();
        tensors.find(|tensor| tensor.from.iter().any(|from| from == name))
    }
}

/// The tensors of a file of this architecture.
fn planned(
    of: &'static Architecture,
    model: &AutoConfig,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Vec<Planned>> {
    let common = model.common();
    let heads = (common.num_attention_heads, common.num_key_value_heads);
    let heads = (heads.0 as u64, heads.1 as u64);
    let mut parts: BTreeMap<String, BTreeMap<usize, (&String, &[usize])>> = BTreeMap::new();
    for (name, shape) in shapes {
        let is_tied = of.name_in_file(name) == Some(("output.weight".into(), None));
        if model.is_buffer(name) || of.is_key(name) || (is_tied && common.tie_word_embeddings) {
            continue;
        }
        let there = of.name_in_file(name);
        let (there, number) = there.ok_or_else(|| {
            let name_there = of.name;
            refused(format!(
                "tensor {name} has no name in GGUF files of architecture {name_there:?}"
            ))
        })?;
        let part = (name, shape.as_slice());
        parts
            .entry(there)
            .or_default()
            .insert(number.unwrap_or(0), part);
    }
    let mut tensors = Vec::new();
    for (name, parts) in parts {
        let Some(&(first, shape)) = parts.get(&0) else {
            return Err(refused(format!(
                "the first part of tensor {name} is missing"
            )));
        };
        let change = Change::of(of.changes, &name, shape.len(), heads);
        let mut shape = shape.to_vec();
        let multiple = change.multiple();
        if shape.is_empty() || multiple == 0 || !shape[0].is_multiple_of(multiple) {
            return Err(refused(format!(
                "tensor {first} is {shape:?}, whose rows are not a multiple of {multiple}"
            )));
        }
        if change == Change::Turned {
            shape.reverse();
        }
        let is_f32 =
            shape.len() == 1 || name.ends_with("_norm.weight") || name == "position_embd.weight";
        if of
            .name_in_file(first)
            .is_some_and(|(_, number)| number.is_some())
        {
            shape.insert(0, parts.len());
        }
        let from = parts.into_values().map(|(name, _)| name.clone());
        tensors.push(Planned {
            name,
            shape,
            from: from.collect(),
            is_f32,
            change,
        });
    }
    if common.tie_word_embeddings && HEAD.contains(&of.name) {
        let embedding = tensors
            .iter()
            .find(|tensor| tensor.name == "token_embd.weight");
        let head = embedding.map(|embedding| Planned {
            name: "output.weight".into(),
            ..embedding.clone()
        });
        tensors.extend(head);
    }
    tensors.sort_by_key(|tensor| place(&tensor.name));
    limits::check(of, model, &tensors)?;
    Ok(tensors)
}

/// First what precedes the blocks, then the blocks by number, then what follows them.
fn place(name: &str) -> (usize, usize, String) {
    let block = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split('.').next());
    let group = match block {
        Some(_) => 1,
        None if name.starts_with("output") => 2,
        None => 0,
    };
    let number = block.and_then(|block| block.parse().ok());
    (group, number.unwrap_or(0), name.to_string())
}
