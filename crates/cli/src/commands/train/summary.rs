//! A summary of what is adapted.

use anyhow::Result;
use burn_peft::config::{CommonConfig, HEAD_KEYS};
use burn_peft::methods::default_config;
use burn_peft::parameters::thousands;
use burn_peft::{Adaptable, DEFAULT_ADAPTER, Method, Path, PeftModel};
use burn_peft_models::AutoModel;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::output::table;

/// The method with its numbers, then a line for each kind of layer that is trained:
///
/// ```text
/// LORA: r = 8, lora_alpha = 16
///   transformer.h.*.attn.c_attn  4 layers  16,384 parameters
/// ```
pub fn summary(model: &PeftModel<AutoModel>) -> Result<String> {
    let layers: Vec<String> = model.layers().into_iter().map(|layer| layer.path).collect();
    let mut places: IndexMap<String, (Vec<&str>, usize)> = IndexMap::new();
    let parameters = model.named_parameters();
    for parameter in parameters.iter().filter(|p| p.requires_grad) {
        let name = parameter.name.trim_start_matches("base_model.");
        let name = name.strip_prefix("model.").unwrap_or(name);
        let within = layers.iter().filter_map(|path| {
            let rest = name.strip_prefix(path.as_str())?.strip_prefix('.')?;
            Some((path.as_str(), rest))
        });
        let layer = within.max_by_key(|(path, _)| path.len());
        let key = match layer {
            Some((path, rest)) => format!("  {}{}", every(path), part(rest)),
            None => format!("  {name}"),
        };
        let (layers, parameters) = places.entry(key).or_default();
        if let Some((layer, _)) = layer
            && !layers.contains(&layer)
        {
            layers.push(layer);
        }
        *parameters += parameter.numel();
    }
    let rows = places.into_iter().map(|(place, (layers, parameters))| {
        let layers = match layers.len() {
            0 => String::new(),
            1 => "1 layer".to_string(),
            count => format!("{count} layers"),
        };
        [
            place,
            layers,
            format!("{} parameters", thousands(parameters)),
        ]
    });
    let config = model.config(DEFAULT_ADAPTER)?;
    let rows: Vec<_> = rows.collect();
    Ok(format!(
        "{}\n{}",
        numbers(config.as_ref(), &unset(model, config.as_ref())),
        table(&rows)
    ))
}

/// What a trained parameter of a layer is, if it is not one of the adapter's.
fn part(name: &str) -> &'static str {
    match name.split('.').next().unwrap_or_default() {
        "modules_to_save" => " (a copy of the layer)",
        "bias" => " (its bias)",
        "base_layer" if name.ends_with("bias") => " (its bias)",
        _ => "",
    }
}

/// A path with `*` in place of block numbers.
fn every(path: &str) -> String {
    let is_number = |part: &str| part.parse::<usize>().is_ok();
    let parts = path
        .split('.')
        .map(|part| if is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Keys that describe the model instead of the method.
const OF_THE_MODEL: [&str; 5] = [
    "fan_in_fan_out",
    "token_dim",
    "num_transformer_submodules",
    "num_attention_heads",
    "num_layers",
];

/// The keys of a method with the defaults that it has on this model.
fn unset(model: &PeftModel<AutoModel>, config: &dyn Method) -> Map<String, Value> {
    let Some(default) = default_config(config.peft_type()) else {
        return Map::new();
    };
    let layers = model.layers();
    let mut adapted = Vec::new();
    model
        .get_base_model()
        .visit_slots(&mut Path::default(), &mut |path, slot| {
            if slot.adapter(DEFAULT_ADAPTER).is_some() {
                adapted.extend(layers.iter().filter(|layer| layer.path == path));
            }
        });
    let default = default.with_common(config.common().clone());
    let prepared = default.prepared(model.get_base_model().model_type(), &layers);
    // Without a default for the model, there is nothing to compare with.
    let default = prepared.ok().flatten().unwrap_or(default);
    default
        .attached(config.common().clone(), &adapted)
        .to_json()
}

/// `LORA: r = 8, lora_alpha = 16, use_dora = true`: the numbers of a method, and those of its other
/// keys that differ from the defaults, as in a training file.
fn numbers(config: &dyn Method, unset: &Map<String, Value>) -> String {
    let peft_type = config.peft_type();
    let shared = CommonConfig::default().to_json(peft_type);
    let keys = config.to_json().into_iter().filter(|(key, value)| {
        let of_model = OF_THE_MODEL.iter().chain(&HEAD_KEYS);
        let own = !shared.contains_key(key) && !of_model.clone().any(|other| other == key);
        let told = match value {
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Bool(_) | Value::String(_) => unset.get(key) != Some(value),
            _ => false,
        };
        own && told
    });
    let keys: Vec<String> = keys
        .map(|(key, value)| match &value {
            Value::String(text) => format!("{key} = {}", toml::Value::from(text.as_str())),
            _ => format!("{key} = {value}"),
        })
        .collect();
    if keys.is_empty() {
        peft_type.to_string()
    } else {
        format!("{peft_type}: {}", keys.join(", "))
    }
}
