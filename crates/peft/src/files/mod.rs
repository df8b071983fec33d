//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.

pub mod tensor_file;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use burn_peft_files::{atomic, read_text};
use indexmap::IndexMap;

use crate::config::{Fields, render_json};
use crate::files::tensor_file::{read_tensors, transpose, write_tensors};
use crate::methods::config_from_fields;
use crate::model::DEFAULT_ADAPTER;
use crate::model::share;
use crate::{BaseModel, PeftError, PeftModel, Result};

/// The name of the file with an adapter's configuration.
pub const CONFIG_NAME: &str = "adapter_config.json";
/// The name of the file with an adapter's tensors.
pub const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// The name of the file with what is trained, where the adapter's file holds only what it makes;
/// PEFT has no such file, and takes no notice of it.
pub const TRAINING_NAME: &str = "adapter_training.safetensors";
/// What PEFT puts before the path of a layer.
pub(crate) const PREFIX: &str = "base_model.model.";
/// What PEFT puts before a tensor that all layers share.
pub(crate) const SHARED_PREFIX: &str = "base_model.";
/// PyTorch's own format, which is not read: it can hold any program.
const TORCH_WEIGHTS_NAME: &str = "adapter_model.bin";

impl<M: BaseModel> PeftModel<M> {
    /// Writes every adapter as PEFT does: the one called `default` into `directory`, any other
    /// into a folder of its name within. The base is never written.
    ///
    /// A method whose file holds only what its tensors make (p-tuning's encoder) gets these
    /// tensors into [`TRAINING_NAME`] beside it, so that its training can go on.
    ///
    /// Each file is written under a temporary name and renamed, so that no reader ever sees half
    /// of one. An adapter that is in the folder already is replaced without a question, as PEFT does.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save_pretrained(&self, directory: impl AsRef<Path>) -> Result<()> {
        let directory = directory.as_ref();
        for (name, config) in &self.peft_config {
            let folder = match name.as_str() {
                DEFAULT_ADAPTER => directory.to_path_buf(),
                name => directory.join(name),
            };
            fs::create_dir_all(&folder).map_err(|source| io_error(&folder, source))?;
            let tensors = self.adapter_state_dict(name);
            let (path, training) = (folder.join(TRAINING_NAME), self.training_state_dict(name));
            if !training.is_empty() {
                write_tensors(&path, training)?;
            } else if path.exists() {
                // Another adapter's, which would be taken for this one's.
                fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
            }
            write_adapter(&folder, config.as_ref(), tensors)?;
        }
        Ok(())
    }

    /// Writes the adapter `default`, which took a part of the base's weights when it was made
    /// (PiSSA, OLoRA), as one for the untouched base. `initial` is the folder in which the same
    /// adapter was saved before it was trained (PEFT's
    /// `path_initial_model_for_weight_conversion`).
    ///
    /// # Errors
    /// If the method takes nothing from the base, `initial` is another adapter's, or a file cannot
    /// be read or written.
    pub fn save_pretrained_converted(
        &self,
        directory: impl AsRef<Path>,
        initial: impl AsRef<Path>,
    ) -> Result<()> {
        let initial = read_weights(initial.as_ref())?;
        let now = self.adapter_state_dict(DEFAULT_ADAPTER);
        let config = self.config(DEFAULT_ADAPTER)?;
        let (config, tensors) = config.subtract_initial(now, initial)?;
        write_adapter(directory.as_ref(), config.as_ref(), tensors)
    }

    /// Loads an adapter that PEFT, or [`save_pretrained`](Self::save_pretrained), has written.
    ///
    /// It is active; its tensors are trained further only if `is_trainable`.
    ///
    /// # Errors
    /// If the files are missing or broken, if a tensor is missing, left over or of another shape
    /// than the model's, or as [`get_peft_model`](crate::get_peft_model).
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

    /// Loads a further adapter under a name of its own; it is not active yet.
    ///
    /// If there is an adapter of that name, its tensors are replaced, so loading into a model
    /// that was wrapped before never trains to no effect (PEFT issue 2115).
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained). The model is as before.
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
            .and_then(|()| match is_new {
                true => Ok(()),
                false => self.set_adapter(&active),
            });
        if let Err(error) = loaded {
            *self = before;
            return Err(error);
        }
        self.set_requires_grad(adapter_name, is_trainable);
        Ok(())
    }

    /// Sets the tensors of every adapter to those that [`save_pretrained`](Self::save_pretrained)
    /// has written of this model before. Their configurations, which of them act and what is
    /// trained stay as they are.
    ///
    /// # Errors
    /// If a file is missing or broken, or does not fit its adapter.
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

    /// The tensors of one adapter under their keys in PEFT's file, in the order of the layers.
    pub fn adapter_state_dict(&self, adapter_name: &str) -> Vec<(String, TensorData)> {
        let mut tensors = self.all_tensors(adapter_name);
        if let Some((key, output)) = self.model_adapter(adapter_name).and_then(|a| a.output()) {
            let makers = self.maker_keys(adapter_name);
            tensors.retain(|(key, _)| !makers.contains(key));
            tensors.push((key.to_string(), output));
        }
        tensors.extend(self.stored_weights(adapter_name));
        tensors
    }

    /// The tensors that make what the file holds, where it does not hold them.
    fn training_state_dict(&self, adapter_name: &str) -> Vec<(String, TensorData)> {
        let makers = self.maker_keys(adapter_name);
        let mut tensors = self.all_tensors(adapter_name);
        tensors.retain(|(key, _)| makers.contains(key));
        tensors
    }

    /// The keys of the tensors that serve only to make what the file holds.
    fn maker_keys(&self, adapter_name: &str) -> Vec<String> {
        let adapter = self.model_adapter(adapter_name);
        let Some(adapter) = adapter.filter(|adapter| adapter.output().is_some()) else {
            return Vec::new();
        };
        let tensors = adapter.tensors();
        let keys = tensors.iter().map(|tensor| tensor.spec().key.to_string());
        keys.collect()
    }

    fn all_tensors(&self, adapter_name: &str) -> Vec<(String, TensorData)> {
        let mut tensors = Vec::new();
        // A clone shares the tensors; it only spares a second traversal without `mut`.
        let config = self.peft_config.get(adapter_name);
        self.clone().visit_adapter(adapter_name, |entry| {
            let data = entry.param.to_data().convert::<f32>();
            let data = match (entry.transposed, entry.tensor, config) {
                (true, ..) => transpose(data),
                (false, Some((path, name)), Some(config)) => config.to_file(path, name, data),
                _ => data,
            };
            tensors.push((entry.key.to_string(), data));
        });
        tensors
    }

    /// Makes the tensors that an adapter's layers share one again, after the first was loaded.
    pub(crate) fn share_tensors(&mut self, adapter_name: &str) {
        let mut adapters = Vec::new();
        self.visit_slots(|_, slot| adapters.extend(slot.adapter(adapter_name).cloned()));
        share(adapters.iter_mut());
        let mut shared = adapters.into_iter();
        self.visit_slots_mut(|_, slot| {
            for adapter in slot.adapters_mut() {
                if adapter.name == adapter_name
                    && let Some(other) = shared.next()
                {
                    *adapter = other;
                }
            }
        });
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
            // What makes the output lies in a file of its own.
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
                match (entry.repeated, entry.of_base) {
                    (true, _) => {}
                    (false, true) => biases.1.push(key.to_string()),
                    (false, false) => missing.push(key.to_string()),
                }
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
            }
            found.insert(key.to_string(), data);
        });
        if !mismatched.is_empty() {
            mismatched.truncate(4);
            let list = mismatched.join("; ");
            return Err(file_error(
                &path,
                format!("the adapter does not fit the model: {list}"),
            ));
        }
        match biases {
            (_, without) if without.is_empty() => {}
            // PEFT has long not saved those of `lora_only`, and keeps the base's as well.
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
            return Err(file_error(&path, problem));
        }
        self.visit_adapter(adapter_name, |entry| {
            if let Some(data) = found.remove(entry.key) {
                entry.param.set_data(data, entry.transposed);
            }
        });
        self.share_tensors(adapter_name);
        Ok(())
    }
}

/// Writes an adapter's two files into a folder, which is made where there is none.
///
/// # Errors
/// If a file cannot be written.
pub fn write_adapter(
    folder: &Path,
    config: &dyn crate::Method,
    tensors: Vec<(String, TensorData)>,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
    let mut common = config.common().clone();
    common.inference_mode = true;
    let json = render_json(&config.with_common(common).to_json());
    write_tensors(&folder.join(WEIGHTS_NAME), tensors)?;
    let path = folder.join(CONFIG_NAME);
    atomic::write(&path, json.as_bytes()).map_err(|source| io_error(&path, source))
}

/// The configuration in an adapter's folder.
///
/// # Errors
/// If there is no such file (the error says so if the folder holds a whole model), or as
/// [`config_from_fields`].
pub fn read_config(directory: &Path) -> Result<std::sync::Arc<dyn crate::Method>> {
    let path = directory.join(CONFIG_NAME);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => {
            let reason = match (directory.is_dir(), directory.join("config.json").is_file()) {
                (true, true) => {
                    "this folder holds a model (config.json), not an adapter: it has no \
                     adapter_config.json"
                }
                (true, false) => "no adapter here: the folder has no adapter_config.json",
                (false, _) => "no such folder; an adapter is a folder with adapter_config.json",
            };
            return Err(file_error(directory, reason));
        }
        Err(error) => return Err(error.into()),
    };
    config_from_fields(Fields::parse(&text, path.display().to_string())?)
}

/// The configuration of an adapter that is loaded: one that acts at the model is made as it was
/// trained only if it is to be trained and the folder holds what it takes.
fn config_to_load(
    directory: &Path,
    is_trainable: bool,
) -> Result<std::sync::Arc<dyn crate::Method>> {
    let config = read_config(directory)?;
    if !config.acts_at_model() {
        return Ok(config);
    }
    let mut common = config.common().clone();
    common.inference_mode = !(is_trainable && directory.join(TRAINING_NAME).is_file());
    Ok(config.with_common(common))
}

/// The tensors of an adapter's folder, by key.
///
/// # Errors
/// If the file is missing or broken; the error says so where there is one in PyTorch's format.
pub(crate) fn read_weights(directory: &Path) -> Result<IndexMap<String, TensorData>> {
    let path = directory.join(WEIGHTS_NAME);
    if path.exists() {
        return read_tensors(&path);
    }
    let torch = [TORCH_WEIGHTS_NAME, "pytorch_model.bin"].into_iter();
    let reason = match torch.into_iter().find(|name| directory.join(name).exists()) {
        Some(name) => format!(
            "has only PyTorch's {name}: save it as safetensors (load it with Python's peft and \
             call save_pretrained)"
        ),
        None => format!("the folder has {CONFIG_NAME}, but no {WEIGHTS_NAME}"),
    };
    Err(file_error(directory, reason))
}

/// How many numbers an adapter may have whose file holds these tensors: enough for an error that
/// tells which of them does not fit.
fn numbers_of(directory: &Path, tensors: &IndexMap<String, TensorData>) -> usize {
    const ROOM: usize = 1 << 20;
    let numbers: usize = tensors.values().map(TensorData::num_elements).sum();
    let training = fs::metadata(directory.join(TRAINING_NAME));
    let training = training.map_or(0, |file| file.len() as usize / size_of::<f32>());
    ROOM + 2 * (numbers + training)
}

/// What is wrong where tensors are missing or nothing takes them.
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

pub(crate) fn file_error(path: &Path, reason: impl Into<String>) -> PeftError {
    PeftError::File {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

pub(crate) fn io_error(path: &Path, source: std::io::Error) -> PeftError {
    PeftError::Io {
        path: path.to_path_buf(),
        source,
    }
}
