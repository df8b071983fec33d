//! Weights in unsupported file formats.

use std::path::Path;

/// Describes a model folder's weights in unsupported formats, and the way out.
pub(super) fn other_weights(folder: &Path) -> Option<String> {
    const LOAD: &str = "load it with Python's transformers and call save_pretrained";
    let mut names: Vec<String> = (folder.read_dir().ok()?.flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let first = |of: &dyn Fn(&str) -> bool| names.iter().find(|name| of(name));
    let torch = |name: &str| name.starts_with("pytorch_model") && name.contains(".bin");
    let shard = |name: &str| name.starts_with("model-") && name.ends_with(".safetensors");
    let gguf = |name: &str| name.ends_with(".gguf");
    let other = |name: &str| name.ends_with(".safetensors") && !name.starts_with("adapter_");
    if let Some(name) = first(&torch) {
        return Some(format!("PyTorch's {name}: save it as safetensors ({LOAD})"));
    }
    if let Some(name) = first(&shard) {
        return Some(format!(
            "the shard {name} without model.safetensors.index.json, which lists the tensors of \
             each shard: get that file from the model's source"
        ));
    }
    for (name, whose, with) in [
        ("tf_model.h5", "TensorFlow's", "from_tf=True"),
        ("flax_model.msgpack", "Flax's", "from_flax=True"),
    ] {
        if first(&|other| other == name).is_some() {
            return Some(format!(
                "{whose} {name}: save it as safetensors ({LOAD}; from_pretrained takes {with})"
            ));
        }
    }
    if let Some(name) = first(&gguf) {
        return Some(format!("{name}: give the file itself as the model"));
    }
    let name = first(&other)?;
    Some(format!("{name}: rename it if it is the model"))
}
