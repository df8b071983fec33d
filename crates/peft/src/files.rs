//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use burn_peft_files::{atomic, read_text};
use indexmap::IndexMap;

use crate::config::{Fields, render_json};
use crate::methods::config_from_fields;
use crate::model::{DEFAULT_ADAPTER, share};
use crate::tensor_file::{read_tensors, transpose, write_tensors};
use crate::{AnyParam, BaseModel, LayerKind, PeftError, PeftModel, Result};

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
const SHARED_PREFIX: &str = "base_model.";

impl<M: BaseModel> PeftModel<M> {
    /// Writes every adapter as PEFT does: the one called `default` into `directory`, any other
    /// into a folder of its name within. The base is never written.
    ///
    /// A method whose file holds only what its tensors make (p-tuning's encoder) gets these
    /// tensors into [`TRAINING_NAME`] beside it, so that its training can go on.
    ///
    /// Each file is written under a temporary name and renamed, so that no reader ever sees half
    /// of one.
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
        let initial = read_tensors(&initial.as_ref().join(WEIGHTS_NAME))?;
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
        let tensors = read_tensors(&directory.join(WEIGHTS_NAME))?;
        let mut peft_model = Self::new(model, DEFAULT_ADAPTER, config)?;
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
        let tensors = read_tensors(&directory.join(WEIGHTS_NAME))?;
        let is_new = !self.peft_config.contains_key(adapter_name);
        let before = self.clone();
        if !is_new {
            self.delete_adapter(adapter_name)?;
        }
        let active: Vec<&str> = before.active.iter().map(String::as_str).collect();
        let loaded = self
            .add_adapter(adapter_name, config)
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
            let tensors = read_tensors(&folder.join(WEIGHTS_NAME))?;
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
        let mut found = HashMap::new();
        self.clone().visit_adapter(adapter_name, |entry| {
            let key = entry.key;
            let Some(data) = tensors.swap_remove(key) else {
                if !entry.repeated {
                    missing.push(key.to_string());
                }
                return;
            };
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
        let unexpected: Vec<&str> = tensors.keys().take(4).map(String::as_str).collect();
        if !mismatched.is_empty() {
            mismatched.truncate(4);
            let list = mismatched.join("; ");
            return Err(file_error(
                &path,
                format!("the adapter does not fit the model: {list}"),
            ));
        }
        if !missing.is_empty() || !unexpected.is_empty() {
            let first = |names: Vec<&str>| match names.is_empty() {
                true => String::new(),
                false => format!(" (first {})", names.join(", ")),
            };
            return Err(file_error(
                &path,
                format!(
                    "the adapter does not fit its configuration and the model: {} tensors are \
                     missing{}, {} are unexpected{}",
                    missing.len(),
                    first(missing.iter().take(4).map(String::as_str).collect()),
                    tensors.len(),
                    first(unexpected),
                ),
            ));
        }
        self.visit_adapter(adapter_name, |entry| {
            if let Some(data) = found.remove(entry.key) {
                entry.param.set_data(data, entry.transposed);
            }
        });
        self.share_tensors(adapter_name);
        Ok(())
    }

    /// Calls `visit` with everything that is saved of an adapter.
    pub(crate) fn visit_adapter(&mut self, adapter_name: &str, mut visit: impl FnMut(Entry<'_>)) {
        use crate::config::Bias;
        let bias = self
            .peft_config
            .get(adapter_name)
            .map(|config| config.bias());
        for adapter in &mut self.model_adapters {
            if adapter.name == adapter_name {
                adapter.visit(&mut visit);
            }
        }
        let tied = self.tied_layers().map(|(_, output)| output);
        let mut shared = Vec::new();
        self.visit_slots_mut(|path, slot| {
            let is_linear = slot.kind() == LayerKind::Linear;
            let mut adapted = false;
            for adapter in slot.adapters_mut() {
                if adapter.name == adapter_name {
                    adapted = true;
                    for tensor in &mut adapter.tensors {
                        let spec = tensor.spec.clone();
                        if !spec.saved {
                            continue;
                        }
                        let mut entry = |key: &str, transposed, repeated| {
                            visit(Entry {
                                key,
                                param: tensor.param_mut(),
                                transposed,
                                repeated,
                                tensor: Some((path, &spec.name)),
                            });
                        };
                        if spec.shared && !shared.contains(&spec.name) {
                            shared.push(spec.name.clone());
                            entry(&format!("{SHARED_PREFIX}{}", spec.key), false, false);
                        }
                        if !spec.shared || spec.in_layers {
                            entry(&format!("{PREFIX}{path}.{}", spec.key), false, spec.shared);
                        }
                        if let (Some(output), Some((key, transposed))) = (&tied, &spec.tied) {
                            entry(&format!("{PREFIX}{output}.{key}"), *transposed, true);
                        }
                    }
                }
            }
            let is_tied = slot.state().is_tied(adapter_name);
            slot.visit_saved_mut(adapter_name, &mut |name, param| {
                let key = format!("{PREFIX}{path}.{name}");
                // torch's Linear keeps its weight the other way round.
                visit(Entry::new(&key, param, is_linear && name == "weight"));
                if let Some(output) = tied.as_ref().filter(|_| is_tied) {
                    let key = format!("{PREFIX}{output}.{name}");
                    let entry = Entry::new(&key, param, false);
                    visit(Entry {
                        repeated: true,
                        ..entry
                    });
                }
            });
            if bias == Some(Bias::All) || (bias == Some(Bias::LoraOnly) && adapted) {
                let base = if adapted { ".base_layer" } else { "" };
                slot.visit_base_mut(&mut |name, param| {
                    if name == "bias" {
                        let key = format!("{PREFIX}{path}{base}.bias");
                        visit(Entry::new(&key, param, false));
                    }
                });
            }
        });
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

/// Something that is saved of an adapter.
pub(crate) struct Entry<'a> {
    /// Its key in the file.
    pub key: &'a str,
    pub param: &'a mut dyn AnyParam,
    /// Whether the file holds it transposed.
    pub transposed: bool,
    /// Whether it was visited under another key before.
    pub repeated: bool,
    /// Of a method's tensor, the path of its layer and its name.
    pub tensor: Option<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    pub fn new(key: &'a str, param: &'a mut dyn AnyParam, transposed: bool) -> Self {
        Self {
            key,
            param,
            transposed,
            repeated: false,
            tensor: None,
        }
    }
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
