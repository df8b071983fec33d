//! Loading adapters from PEFT's files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use indexmap::IndexMap;

use super::DEFAULT_ADAPTER;
use crate::files::tensor_file::read_tensors;
use crate::files::{TRAINING_NAME, WEIGHTS_NAME, read_config, read_weights};
use crate::{BaseModel, Method, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Loads an adapter written by PEFT or by [`save_pretrained`](Self::save_pretrained).
    ///
    /// It is active; its tensors can be trained further only if `is_trainable`.
    ///
    /// # Errors
    /// If files are missing or malformed, if a tensor is missing, unknown or of another shape than
    /// the model's, or as [`get_peft_model`](crate::get_peft_model).
    pub fn from_pretrained(
        model: M,
        directory: impl AsRef<Path>,
        is_trainable: bool,
    ) -> Result<Self> {
        let directory = directory.as_ref();
        let config = config_to_load(directory, is_trainable)?;
        let tensors = read_weights(directory)?;
        let mut peft_model = Self::unadapted(model)?;
        peft_model.fit_vocabulary(&tensors, directory)?;
        peft_model.add_adapter_within(DEFAULT_ADAPTER, config, numbers_of(directory, &tensors))?;
        peft_model.set_adapter(&[DEFAULT_ADAPTER])?;
        peft_model.load_state_dict(DEFAULT_ADAPTER, tensors, directory)?;
        peft_model.set_requires_grad(DEFAULT_ADAPTER, is_trainable);
        Ok(peft_model)
    }

    /// Loads another adapter under its own name; it is not active yet.
    ///
    /// If there already is an adapter with that name, its tensors are replaced, so that loading
    /// into a model that was already wrapped never trains to no effect (PEFT issue 2115).
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained). The model is then unchanged.
    pub fn load_adapter(
        &mut self,
        directory: impl AsRef<Path>,
        adapter_name: &str,
        is_trainable: bool,
    ) -> Result<()> {
        let directory = directory.as_ref();
        let config = config_to_load(directory, is_trainable)?;
        let tensors = read_weights(directory)?;
        let is_new = !self.peft_config.contains_key(adapter_name);
        let before = self.clone();
        if !is_new {
            self.delete_adapter(adapter_name)?;
        }
        let active: Vec<&str> = before.active.iter().map(String::as_str).collect();
        let loaded = self
            .fit_vocabulary(&tensors, directory)
            .and_then(|()| {
                self.add_adapter_within(adapter_name, config, numbers_of(directory, &tensors))
            })
            .and_then(|()| self.load_state_dict(adapter_name, tensors, directory))
            .and_then(|()| {
                if is_new {
                    Ok(())
                } else {
                    self.set_adapter(&active)
                }
            });
        if let Err(error) = loaded {
            *self = before;
            return Err(error);
        }
        self.set_requires_grad(adapter_name, is_trainable);
        Ok(())
    }

    /// Sets the tensors of every adapter to those that [`save_pretrained`](Self::save_pretrained)
    /// has written for this model. Configurations, and which adapters are active and trained, stay
    /// the same.
    ///
    /// # Errors
    /// If a file is missing or malformed, or does not fit its adapter.
    pub fn restore_pretrained(&mut self, directory: impl AsRef<Path>) -> Result<()> {
        let names: Vec<String> = self.peft_config.keys().cloned().collect();
        for name in names {
            let folder = match name.as_str() {
                DEFAULT_ADAPTER => directory.as_ref().to_path_buf(),
                name => directory.as_ref().join(name),
            };
            if self.restore_step_state(&name, directory.as_ref(), &folder)? {
                continue;
            }
            let tensors = read_weights(&folder)?;
            self.load_state_dict(&name, tensors, &folder)?;
        }
        Ok(())
    }

    /// Sets the tensors of one adapter from those of a file.
    pub(crate) fn load_state_dict(
        &mut self,
        adapter_name: &str,
        mut tensors: IndexMap<String, TensorData>,
        directory: &Path,
    ) -> Result<()> {
        let mut path = directory.join(WEIGHTS_NAME);
        if let Some((key, _)) = self.model_adapter(adapter_name).and_then(|a| a.output()) {
            // The tensors that compute the file's content are in a separate file.
            tensors.swap_remove(key);
            path = directory.join(TRAINING_NAME);
            tensors.extend(read_tensors(&path)?);
        }
        let (mut missing, mut mismatched) = (Vec::new(), Vec::new());
        let mut biases = (0, Vec::new());
        let mut found = HashMap::new();
        self.clone().visit_adapter(adapter_name, |entry| {
            let key = entry.key;
            let mut data = tensors.swap_remove(key);
            if data.is_none() && entry.of_base {
                // PEFT before 0.6 had no base_layer.
                data = tensors.swap_remove(&key.replace(".base_layer.", "."));
            }
            let Some(data) = data else {
                if entry.repeated {
                    return;
                }
                let list = if entry.of_base {
                    &mut biases.1
                } else {
                    &mut missing
                };
                list.push(key.to_string());
                return;
            };
            biases.0 += usize::from(entry.of_base);
            let mut dims = entry.param.dims();
            if entry.transposed {
                dims.reverse();
            }
            let shape = data.shape().to_vec();
            if shape != dims {
                mismatched.push(format!("{key} is {shape:?}, the model needs {dims:?}"));
            } else if let Some(index) = out_of(entry.limits, &data) {
                mismatched.push(format!("{key} has the index {index}, which is outside"));
            }
            found.insert(key.to_string(), data);
        });
        if !mismatched.is_empty() {
            mismatched.truncate(4);
            let list = mismatched.join("; ");
            return Err(PeftError::file(
                &path,
                format!("the adapter does not fit the model: {list}"),
            ));
        }
        match biases {
            (_, without) if without.is_empty() => {}
            // For a long time PEFT did not save the biases of `lora_only`, and it also keeps the
            // base's.
            (0, without) => tracing::warn!(
                "{}: the configuration trains biases of the base, but the file holds none of \
                 the {} (first {}): those of the model stay",
                path.display(),
                without.len(),
                without[0]
            ),
            (_, without) => missing.extend(without),
        }
        self.take_stored(adapter_name, &mut tensors, directory)?;
        if let Some(problem) = unfitting(&missing, &tensors) {
            return Err(PeftError::file(&path, problem));
        }
        self.visit_adapter(adapter_name, |entry| {
            let Some(data) = found.remove(entry.key) else {
                return;
            };
            entry.param.set_data(data, entry.transposed);
            if entry.transposed {
                entry.param.lay_in_order();
            }
        });
        self.share_tensors(adapter_name);
        Ok(())
    }
}

/// The configuration of an adapter to be loaded. An adapter that acts at the model is prepared for
/// training only if it is to be trained and the folder has the tensors for it.
fn config_to_load(directory: &Path, is_trainable: bool) -> Result<Arc<dyn Method>> {
    let config = read_config(directory)?;
    if !config.acts_at_model() {
        return Ok(config);
    }
    let mut common = config.common().clone();
    common.inference_mode = !(is_trainable && directory.join(TRAINING_NAME).is_file());
    Ok(config.with_common(common))
}

/// The most numbers that the adapter in a file with these tensors may have: enough for a later
/// error to name the tensor that does not fit.
fn numbers_of(directory: &Path, tensors: &IndexMap<String, TensorData>) -> usize {
    const ROOM: usize = 1 << 20;
    let numbers: usize = tensors.values().map(TensorData::num_elements).sum();
    let training = fs::metadata(directory.join(TRAINING_NAME));
    let training = training.map_or(0, |file| file.len() as usize / size_of::<f32>());
    ROOM + 2 * (numbers + training)
}

/// The first index that is not an integer, or not below the limit of its row.
fn out_of(limits: &[usize], data: &TensorData) -> Option<f32> {
    let columns = data.num_elements() / limits.len().max(1);
    let rows = limits
        .iter()
        .flat_map(|limit| std::iter::repeat_n(*limit, columns));
    let mut indices = data.iter::<f32>().zip(rows);
    let outside = indices.find(|(index, limit)| {
        let whole = index.fract() == 0.0 && *index >= 0.0;
        !whole || *index >= *limit as f32
    });
    outside.map(|(index, _)| index)
}

/// What is wrong if tensors are missing or left over.
fn unfitting(missing: &[String], left: &IndexMap<String, TensorData>) -> Option<String> {
    let list = |count: usize, keys: Vec<&str>, what: &str| {
        let verb = if count == 1 { "is" } else { "are" };
        let first = if count > keys.len() { "first " } else { "" };
        (count > 0).then(|| format!("{count} {verb} {what} ({first}{})", keys.join(", ")))
    };
    let problems = [
        list(
            missing.len(),
            missing.iter().take(4).map(String::as_str).collect(),
            "missing",
        ),
        list(
            left.len(),
            left.keys().take(4).map(String::as_str).collect(),
            "more than the configuration asks for",
        ),
    ];
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    (!problems.is_empty()).then(|| {
        format!(
            "the adapter does not fit its configuration and the model: of its tensors {}; it was \
             made for other layers or keys than its adapter_config.json and this model have",
            problems.join(", ")
        )
    })
}
