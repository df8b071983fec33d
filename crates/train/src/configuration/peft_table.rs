//! The `[peft]` table of a training file, before it becomes a method's configuration.

use burn_peft::LoraConfig;
use burn_peft::methods::{adapts_linear_layers, config_with_key, known_keys};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::configuration::keys::Known;
use crate::configuration::overrides::Override;
use crate::error::ConfigProblem;

/// The method that a file with these changes names; LoRA if it names none.
pub(crate) fn peft_type(table: &Table, overrides: &[Override]) -> String {
    let is_type = |change: &&Override| change.path == ["peft", "peft_type"];
    let changed = overrides.iter().rev().find(is_type);
    // A quoted value is first a TOML string, and last a text with its quotes.
    let changed = changed.and_then(|change| change.readings.iter().find(|value| value.is_str()));
    let in_file = || table.get("peft")?.get("peft_type");
    let name = changed.or_else(in_file).and_then(Value::as_str);
    name.unwrap_or(LoraConfig::PEFT_TYPE).to_string()
}

/// Checks that a method's key accepts a value from `--set`; an unknown method is reported
/// elsewhere.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(method: &str, change: &Override, value: &Value) -> Result<(), ConfigProblem> {
    let path = &change.path[1..];
    let Some((key, inner)) = path.split_first() else {
        return match value {
            Value::Table(_) => Ok(()),
            _ => Err(ConfigProblem::PeftTable),
        };
    };
    if let Some(problem) = not_finite(&path.join("."), value) {
        return Err(problem);
    }
    if key == "peft_type" {
        return Ok(());
    }
    let value = inner.iter().rev().fold(value.clone(), |value, name| {
        Value::Table([(name.clone(), value)].into_iter().collect())
    });
    let try_value = |value: &Value| {
        let value = serde_json::to_value(value);
        let value = value.map_err(|error| ConfigProblem::Toml(error.to_string()))?;
        match config_with_key(method, key, value.clone()) {
            Some(Ok(config)) if config.common().unknown.contains_key(key) => {
                Err(Known::new(method).misspelt("peft", key))
            }
            Some(Err(error)) => {
                let said = error.to_string();
                let said = said.strip_prefix("[peft]: ").unwrap_or(&said);
                // A missing second key is noticed once all keys are there.
                if is_about(said, key, &value.to_string()) {
                    Err(ConfigProblem::Method(said.to_string()))
                } else {
                    Ok(())
                }
            }
            Some(Ok(_)) | None => Ok(()),
        }
    };
    // A text with an opening bracket is a text only if no list can be meant.
    let list = Value::Array(vec![Value::String("name".into())]);
    if change.is_broken && inner.is_empty() && try_value(&list).is_ok() {
        return Err(ConfigProblem::BrokenValue);
    }
    try_value(&value)
}

/// Whether an error is only about a key's value: `r = 0: must be …`, as opposed to
/// `init_lora_weights = "loftq" needs …`.
fn is_about(said: &str, key: &str, value: &str) -> bool {
    let Some(rest) = said.strip_prefix(key) else {
        return false;
    };
    match rest.strip_prefix(" = ") {
        Some(rest) => rest
            .strip_prefix(value)
            .is_none_or(|rest| rest.starts_with(':')),
        // `loftq_config.loftq_bits = 5: …`, `rank_pattern "x" = 0: …`
        None => rest.starts_with('.') || rest.starts_with(" \""),
    }
}

/// Removes another method's keys from `[peft]` if `peft_type` is changed by an override: those of
/// LoRA, with which most files begin, or of the method `before` that the file names. Keys set by
/// overrides stay, and so do keys that these methods do not know: mistakes.
pub(crate) fn drop_keys_of_another_method(
    table: &mut Table,
    before: &str,
    method: &str,
    overrides: &[Override],
) {
    let Some(known) = known_keys(method) else {
        return;
    };
    let Some(Value::Table(peft)) = table.get_mut("peft") else {
        return;
    };
    let others = [LoraConfig::PEFT_TYPE, before].into_iter();
    let of_others: Vec<String> = others.filter_map(known_keys).flatten().collect();
    let is_set = |key: &str| {
        let mut paths = overrides.iter().map(|change| &change.path);
        paths.any(|path| path.len() > 1 && path[0] == "peft" && path[1] == key)
    };
    // The file names linear layers, and this method adapts others.
    let is_elsewhere = before != method && !adapts_linear_layers(method);
    let means_nothing = |key: &String| match key.as_str() {
        "target_modules" if is_elsewhere => true,
        _ => !known.contains(key) && of_others.contains(key),
    };
    let is_left = |key: &&String| means_nothing(key) && !is_set(key);
    let dropped: Vec<String> = peft.keys().filter(is_left).cloned().collect();
    for key in &dropped {
        peft.remove(key);
    }
    if !dropped.is_empty() {
        let keys = dropped.join(", ");
        tracing::warn!("[peft] has keys that {method} does not have, which are ignored: {keys}");
    }
}

/// A number that JSON, to which `[peft]` is converted, cannot express: it would be read as missing.
pub(crate) fn not_finite(key: &str, value: &Value) -> Option<ConfigProblem> {
    match value {
        Value::Float(number) if !number.is_finite() => Some(ConfigProblem::NotFinite {
            key: key.into(),
            value: value.to_string(),
        }),
        Value::Table(table) => {
            let mut entries = table.iter();
            entries.find_map(|(name, value)| not_finite(&format!("{key}.{name}"), value))
        }
        Value::Array(values) => values.iter().find_map(|value| not_finite(key, value)),
        _ => None,
    }
}

/// Whether a method plans over all steps of a run (AdaLoRA's `total_step`) and its keys do not give
/// their number.
pub(crate) fn wants_total_step(peft: &serde_json::Map<String, Json>) -> bool {
    let method = peft.get("peft_type").and_then(Json::as_str);
    let known = known_keys(method.unwrap_or(LoraConfig::PEFT_TYPE)).unwrap_or_default();
    let is_missing = peft.get(TOTAL_STEP).is_none_or(Json::is_null);
    is_missing && known.iter().any(|key| key == TOTAL_STEP)
}

/// The key of [`wants_total_step`].
pub(crate) const TOTAL_STEP: &str = "total_step";
