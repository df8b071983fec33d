//! Converting a LoRA adapter in a GGUF file to PEFT's files.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use burn_peft::files::{CONFIG_NAME, WEIGHTS_NAME};
use burn_peft::tensor_file::write_tensors;
use burn_peft_files::atomic;
use serde_json::{Map, Value, json};

use super::Gguf;
use super::architecture::Architecture;
use super::change::Change;
use crate::AutoModel;
use crate::error::{ModelError, Result};

/// Writes the adapter in a GGUF file, which is for this model, as a PEFT folder.
///
/// # Errors
/// If the file holds no LoRA adapter, or one for another architecture; if a tensor lacks its
/// counterpart or has an impossible shape; if the disk fails.
pub fn read_adapter(file: impl AsRef<Path>, model: &AutoModel, folder: &Path) -> Result<()> {
    let file = Gguf::open(file)?;
    let config = model.config_map();
    let architecture = architecture(&file)?;
    let heads = |key: &str| config.get(key).and_then(Value::as_u64);
    let of_queries = heads("num_attention_heads")
        .or(heads("n_head"))
        .unwrap_or(1);
    let of_keys = heads("num_key_value_heads").unwrap_or(of_queries);
    let alpha = "adapter.lora.alpha";
    let alpha = file.number(alpha)?.ok_or_else(|| file.missing(alpha))?;

    let mut tensors = Vec::new();
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    for (name, info) in &file.tensors {
        let Some((weight, end)) = name.rsplit_once('.') else {
            continue;
        };
        let bad = |reason: &str| file.error(format!("tensor {name}: {reason}"));
        let here = architecture.rename(weight);
        let path = here
            .strip_suffix(".weight")
            .ok_or_else(|| bad("is of no weight"))?;
        let [rows, width] = *info.shape.as_slice() else {
            return Err(bad("is not a matrix"));
        };
        let mut values = file.values(name)?;
        let (key, rank) = match end {
            "lora_a" => ("lora_A", rows),
            "lora_b" => {
                let change = Change::of(architecture.changes, weight, 2, (of_queries, of_keys));
                let multiple = change.multiple();
                if multiple == 0 || !rows.is_multiple_of(multiple) {
                    return Err(bad("has rows that the model's heads do not divide"));
                }
                let places = (0..rows).map(|row| change.row(row, rows));
                values = places
                    .flat_map(|place| values[place * width..][..width].to_vec())
                    .collect();
                ("lora_B", width)
            }
            _ => return Err(bad("is not part of a LoRA adapter")),
        };
        if ranks
            .insert(path.to_string(), rank)
            .is_some_and(|other| other != rank)
        {
            return Err(bad("has a different rank from its counterpart"));
        }
        tensors.push((
            format!("base_model.model.{path}.{key}.weight"),
            TensorData::new(values, [rows, width]),
        ));
    }
    if tensors.len() != 2 * ranks.len() {
        return Err(file.error("has a lora_a without a lora_b, or vice versa"));
    }
    let config = adapter_config(&ranks, alpha).ok_or_else(|| file.error("has no tensors"))?;
    let path = folder.join(CONFIG_NAME);
    atomic::write(&path, config.to_string().as_bytes()).map_err(ModelError::io(&path))?;
    Ok(write_tensors(&folder.join(WEIGHTS_NAME), tensors)?)
}

fn architecture(file: &Gguf) -> Result<&'static Architecture> {
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = file.text(key)?.ok_or_else(|| file.missing(key))?;
        if found != expected {
            return Err(file.error(format!("{key} = {found:?}: expected {expected:?}")));
        }
    }
    let key = "general.architecture";
    let name = file.text(key)?.ok_or_else(|| file.missing(key))?;
    Architecture::of(name).ok_or_else(|| {
        let all = Architecture::all();
        file.error(format!(
            "{key} = {name:?} is not supported; supported: {all}"
        ))
    })
}

/// The `adapter_config.json` for layers with these ranks.
fn adapter_config(ranks: &BTreeMap<String, usize>, alpha: f64) -> Option<Value> {
    let largest = ranks.values().max()?;
    let others = ranks.iter().filter(|(_, rank)| *rank != largest);
    let others: Map<String, Value> = others
        .map(|(path, rank)| (path.clone(), json!(rank)))
        .collect();
    Some(json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": true, "bias": "none",
        "r": largest, "lora_alpha": alpha, "lora_dropout": 0.0, "rank_pattern": others,
        "target_modules": ranks.keys().collect::<Vec<_>>(),
    }))
}
