//! Saving adapters in PEFT's files.

use std::fs;
use std::path::Path;

use burn::tensor::TensorData;

use super::DEFAULT_ADAPTER;
use crate::files::tensor_file::{transpose, write_tensors};
use crate::files::{TRAINING_NAME, read_weights, write_adapter};
use crate::{BaseModel, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Writes every adapter as PEFT does: `default` into `directory`, any other into a subfolder of
    /// its name. The base is never written.
    ///
    /// A method whose file holds only the result of its tensors (p-tuning's encoder) gets these
    /// tensors in [`TRAINING_NAME`] beside it, so that training can continue.
    ///
    /// Each file is written under a temporary name and renamed, so that no reader ever sees an
    /// incomplete file. An existing adapter in the folder is replaced without asking, as in PEFT.
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
            fs::create_dir_all(&folder).map_err(|source| PeftError::io(&folder, source))?;
            let tensors = self.adapter_state_dict(name);
            let (path, training) = (folder.join(TRAINING_NAME), self.training_state_dict(name));
            if !training.is_empty() {
                write_tensors(&path, training)?;
            } else if path.exists() {
                // Another adapter's file would be taken for this one's.
                fs::remove_file(&path).map_err(|source| PeftError::io(&path, source))?;
            }
            write_adapter(&folder, config.as_ref(), tensors)?;
        }
        Ok(())
    }

    /// Writes the adapter `default`, which took a part of the base's weights when it was
    /// initialised (PiSSA, OLoRA), as an adapter for the untouched base. `initial` is the folder in
    /// which the same adapter was saved before training (PEFT's
    /// `path_initial_model_for_weight_conversion`).
    ///
    /// # Errors
    /// If the method takes nothing from the base, `initial` holds another adapter, or a file cannot
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

    /// The tensors from which the file's content is computed, if the file does not hold them.
    fn training_state_dict(&self, adapter_name: &str) -> Vec<(String, TensorData)> {
        let makers = self.maker_keys(adapter_name);
        if makers.is_empty() {
            return Vec::new();
        }
        let mut tensors = self.all_tensors(adapter_name);
        tensors.retain(|(key, _)| makers.contains(key));
        tensors
    }

    /// The keys of the tensors that only serve to compute the file's content.
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
        let steps = self.peft_config.get(adapter_name).and_then(|c| c.steps());
        // A clone shares the tensors; it only avoids a second traversal without `mut`.
        self.clone().visit_adapter(adapter_name, |entry| {
            let data = entry.param.to_data().convert::<f32>();
            let data = match (entry.transposed, entry.tensor, steps) {
                (true, ..) => transpose(data),
                (false, Some((path, name)), Some(steps)) => steps.to_file(path, name, data),
                _ if !entry.limits.is_empty() => data.convert::<i32>(),
                _ => data,
            };
            tensors.push((entry.key.to_string(), data));
        });
        tensors
    }
}
