//! Combining several LoRA or (IA)³ adapters into one. Only their configurations and tensors are
//! needed, from a model or from files.

mod arithmetic;
mod config;
mod ia3;
mod lora;
mod options;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use indexmap::IndexMap;

pub(crate) use lora::low_rank;
pub use options::{Combination, CombinationType, MajoritySign};

use crate::config::{Fields, Keys};
use crate::files::{read_config, read_weights};
use crate::methods::IA3Config;
use crate::{LoraConfig, Method, PeftError, Result};

/// An adapter and its weight in a combination.
#[derive(Clone, Debug)]
pub struct WeightedAdapter<C = Arc<dyn Method>> {
    /// Its name in errors.
    pub name: String,
    /// Its configuration.
    pub config: C,
    /// Its tensors, by their keys in the file.
    pub tensors: IndexMap<String, TensorData>,
    /// Its weight; a negative one removes its effect.
    pub weight: f64,
}

/// The result of a combination.
#[derive(Clone, Debug)]
pub struct Combined {
    /// Its configuration.
    pub config: Arc<dyn Method>,
    /// Its tensors by their keys in the file, in the order of the keys.
    pub tensors: Vec<(String, TensorData)>,
    /// The number of layers that it changes.
    pub layers: usize,
}

impl WeightedAdapter {
    /// An adapter's folder.
    ///
    /// # Errors
    /// If the folder holds no adapter, or a file is malformed.
    pub fn read(directory: &Path, weight: f64) -> Result<Self> {
        Ok(Self {
            name: directory.display().to_string(),
            config: read_config(directory)?,
            tensors: read_weights(directory)?,
            weight,
        })
    }

    /// The same, with the configuration of its method, which `read` makes from the keys.
    fn of<C>(self, read: fn(Fields) -> Result<C>) -> Result<WeightedAdapter<C>> {
        Ok(WeightedAdapter {
            config: read(Fields::new(self.config.to_json(), &self.name))?,
            name: self.name,
            tensors: self.tensors,
            weight: self.weight,
        })
    }
}

/// Combines several adapters of one method, LoRA (α = r, so the scaling of the result is 1) or
/// (IA)³.
///
/// # Errors
/// If there is no adapter; if the adapters are of different methods, or of a method that cannot be
/// combined; if they do not fit each other, or hold more than their method's tensors; if an option
/// is missing or out of range.
pub fn combine(adapters: Vec<WeightedAdapter>, combination: &Combination) -> Result<Combined> {
    let refuse = |reason: String| Err(PeftError::not_combinable(reason));
    let Some(first) = adapters.first() else {
        return refuse("there is no adapter to combine: name at least one".into());
    };
    let method = first.config.peft_type().to_string();
    let different = |other: &&WeightedAdapter| other.config.peft_type() != method;
    if let Some(other) = adapters.iter().find(different) {
        return refuse(format!(
            "{} is a {method} adapter and {} a {} one: only adapters of one method can be combined",
            first.name,
            other.name,
            other.config.peft_type()
        ));
    }
    if let Some(part) = adapters.iter().find(|part| !part.weight.is_finite()) {
        return refuse(format!(
            "{}: the weight {} is not finite",
            part.name, part.weight
        ));
    }
    let name = first.name.clone();
    let adapters = adapters.into_iter();
    match method.as_str() {
        "LORA" => {
            let adapters = adapters.map(|part| part.of(LoraConfig::from_fields));
            lora::combine(&adapters.collect::<Result<Vec<_>>>()?, combination)
        }
        "IA3" => {
            let adapters = adapters.map(|part| part.of(IA3Config::from_fields));
            ia3::combine(&adapters.collect::<Result<Vec<_>>>()?, combination)
        }
        _ => refuse(format!(
            "{name} is a {method} adapter, and only LORA and IA3 adapters can be combined; \
             convert_to_lora (`peft convert`) makes a LORA adapter of one that changes weights"
        )),
    }
}

#[cfg(test)]
mod tests;
