//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.

mod state_dict;
pub mod tensor_file;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use burn_peft_files::{atomic, read_text};
use indexmap::IndexMap;

pub(crate) use self::state_dict::Entry;
use self::tensor_file::{read_tensors, write_tensors};
use crate::config::{Fields, render_json};
use crate::methods::config_from_fields;
use crate::{Method, PeftError, Result};

/// The name of the file with an adapter's configuration.
pub const CONFIG_NAME: &str = "adapter_config.json";
/// The name of the file with an adapter's tensors.
pub const WEIGHTS_NAME: &str = "adapter_model.safetensors";
/// The name of the file with the trained tensors, if the adapter's own file holds only their
/// result. PEFT has no such file, and ignores it.
pub const TRAINING_NAME: &str = "adapter_training.safetensors";
/// The name of the file in a checkpoint with everything that adapters need to continue, in addition
/// to what PEFT saves.
pub const STEP_STATE_NAME: &str = "adapter_state.safetensors";
/// The prefix that PEFT puts before the path of a layer.
pub(crate) const PREFIX: &str = "base_model.model.";
/// The prefix that PEFT puts before a tensor that all layers share.
pub(crate) const SHARED_PREFIX: &str = "base_model.";
/// PyTorch's own format. It is not read, because it can contain arbitrary code.
const TORCH_WEIGHTS_NAME: &str = "adapter_model.bin";

/// Writes an adapter's two files into a folder, which is created if necessary.
///
/// # Errors
/// If a file cannot be written.
pub fn write_adapter(
    folder: &Path,
    config: &dyn Method,
    tensors: Vec<(String, TensorData)>,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| PeftError::io(folder, source))?;
    let mut common = config.common().clone();
    common.inference_mode = true;
    let json = render_json(&config.with_common(common).to_json());
    write_tensors(&folder.join(WEIGHTS_NAME), tensors)?;
    let path = folder.join(CONFIG_NAME);
    atomic::write(&path, json.as_bytes()).map_err(|source| PeftError::io(&path, source))
}

/// The configuration in an adapter's folder.
///
/// # Errors
/// If there is no such file (the error says so if the folder holds a whole model), or as
/// [`config_from_fields`].
pub fn read_config(directory: &Path) -> Result<Arc<dyn Method>> {
    let path = directory.join(CONFIG_NAME);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => {
            let reason = if !directory.is_dir() {
                "no such folder; an adapter is a folder with adapter_config.json"
            } else if directory.join("config.json").is_file() {
                "this folder holds a model (config.json), not an adapter: it has no \
                 adapter_config.json"
            } else {
                "no adapter here: the folder has no adapter_config.json"
            };
            return Err(PeftError::file(directory, reason));
        }
        Err(error) => return Err(error.into()),
    };
    config_from_fields(Fields::parse(&text, path.display().to_string())?)
}

/// The tensors of an adapter's folder, by key.
///
/// # Errors
/// If the file is missing or malformed; the error mentions a file in PyTorch's format if there is
/// one.
pub fn read_weights(directory: &Path) -> Result<IndexMap<String, TensorData>> {
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
    Err(PeftError::file(directory, reason))
}
