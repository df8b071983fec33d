//! The methods, and the registry that finds one by its `peft_type`.

mod encoder;
mod lora;
mod p_tuning;
mod prefix_tuning;
mod prompt_tuning;

pub use p_tuning::{PromptEncoderConfig, Reparameterization};
pub use prefix_tuning::{PrefixInit, PrefixTuningConfig};
pub use prompt_tuning::{PromptTuningConfig, PromptTuningInit};

use std::sync::{Arc, LazyLock, RwLock};

use indexmap::IndexMap;

use crate::config::{Fields, LoraConfig};
use crate::{Method, PeftError, Result};

/// Reads a method's configuration from the keys of `adapter_config.json`.
pub type ReadConfig = fn(Fields) -> Result<Arc<dyn Method>>;

/// Every method that files can name; one line each.
static REGISTRY: LazyLock<RwLock<IndexMap<String, ReadConfig>>> = LazyLock::new(|| {
    let methods: [(&str, ReadConfig); 4] = [
        ("LORA", |fields| {
            Ok(Arc::new(LoraConfig::from_fields(fields)?))
        }),
        (PromptTuningConfig::PEFT_TYPE, PromptTuningConfig::read),
        (PromptEncoderConfig::PEFT_TYPE, PromptEncoderConfig::read),
        (PrefixTuningConfig::PEFT_TYPE, PrefixTuningConfig::read),
    ];
    let methods = methods.into_iter();
    RwLock::new(
        methods
            .map(|(name, read)| (name.to_string(), read))
            .collect(),
    )
});

/// Makes a method of your own known by its `peft_type`, so that its files can be loaded
/// (PEFT's `register_peft_method`). An earlier method of that name is replaced.
pub fn register_method(peft_type: &str, read: ReadConfig) {
    let mut registry = REGISTRY
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    registry.insert(peft_type.to_string(), read);
}

/// The configuration that the keys of an `adapter_config.json` describe.
///
/// Keys that nothing knows are kept, and reported through `tracing`.
///
/// # Errors
/// If `peft_type` is missing or not known, or if a value cannot be used.
pub fn config_from_fields(fields: Fields) -> Result<Arc<dyn Method>> {
    let source = fields.source().to_string();
    let peft_type: Option<String> = fields.peek("peft_type")?;
    let registry = REGISTRY
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let known: Vec<_> = registry.keys().collect();
    let Some(peft_type) = peft_type else {
        return Err(PeftError::Config(format!(
            "{source}: the key `peft_type` is missing; it names the method, one of {known:?}"
        )));
    };
    let Some(read) = registry.get(&peft_type) else {
        return Err(PeftError::Config(format!(
            "{source}: peft_type {peft_type:?} is not supported; supported are {known:?}"
        )));
    };
    let config = read(fields)?;
    config.validate()?;
    let unknown: Vec<_> = config.common().unknown.keys().collect();
    if !unknown.is_empty() {
        tracing::warn!("{source}: unknown keys {unknown:?} are kept but have no effect");
    }
    Ok(config)
}
