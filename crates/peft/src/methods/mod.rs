//! The methods, and the registry that finds one by its `peft_type`.

mod adalora;
mod boft;
mod bottleneck;
mod c3a;
mod delora;
mod fourierft;
mod gralora;
mod hira;
mod hra;
mod ia3;
mod ln_tuning;
mod loha;
mod lokr;
pub(crate) mod lora;
mod miss;
mod oft;
pub(crate) mod prompt;
mod randlora;
mod road;
mod shared;
mod shira;
mod trainable_tokens;
mod vblora;
mod vera;
mod waveft;

use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard};

use indexmap::IndexMap;

pub use adalora::AdaLoraConfig;
pub use boft::BOFTConfig;
pub use bottleneck::{Architecture, BottleneckConfig, NonLinearity};
pub use c3a::C3AConfig;
pub use delora::DeloraConfig;
pub use fourierft::FourierFTConfig;
pub use gralora::GraloraConfig;
pub use hira::HiraConfig;
pub use hra::HRAConfig;
pub use ia3::IA3Config;
pub(crate) use ia3::feedforward_pattern;
pub use ln_tuning::LNTuningConfig;
pub use loha::LoHaConfig;
pub use lokr::LoKrConfig;
pub use lora::LoraFa;
pub use miss::MissConfig;
pub use oft::OFTConfig;
pub use prompt::{
    PrefixInit, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, PromptTuningInit,
    Reparameterization,
};
pub use randlora::RandLoraConfig;
pub use road::RoadConfig;
pub use shared::init_weights::InitWeights;
pub use shira::ShiraConfig;
pub(crate) use trainable_tokens::NEW_ROWS;
pub use trainable_tokens::{TrainableTokenIndices, TrainableTokensConfig};
pub use vblora::VBLoRAConfig;
pub use vera::VeraConfig;
pub use waveft::WaveFTConfig;

use prompt::PromptLearning;

use crate::config::{CommonConfig, Fields, HEAD_KEYS, Keys, LoraConfig};
use crate::{LayerInfo, LayerKind, Method, PeftError, Result};

/// Reads a method's configuration from the keys of `adapter_config.json`.
pub type ReadConfig = fn(Fields) -> Result<Arc<dyn Method>>;

/// The documentation of keys, by their names in files.
type KeyDocs = &'static [(&'static str, &'static str)];

/// The method of a configuration, which may be read in a way of its own.
macro_rules! of {
    ($config:ident) => {
        of!($config, read::<$config>)
    };
    ($config:ident, $read:expr) => {
        ($config::PEFT_TYPE, $read, $config::KEY_DOCS)
    };
}

/// Every method that files can name, and the documentation of its keys; one line each.
const METHODS: &[(&str, ReadConfig, KeyDocs)] = &[
    of!(LoraConfig, |fields| {
        Ok(Arc::new(LoraConfig::unchecked(fields)?))
    }),
    of!(IA3Config),
    of!(LNTuningConfig),
    of!(TrainableTokensConfig),
    of!(AdaLoraConfig),
    of!(VeraConfig),
    of!(VBLoRAConfig),
    of!(FourierFTConfig),
    of!(HiraConfig),
    of!(LoHaConfig),
    of!(LoKrConfig),
    of!(OFTConfig),
    of!(BOFTConfig),
    of!(HRAConfig),
    of!(GraloraConfig),
    of!(RandLoraConfig),
    of!(WaveFTConfig),
    of!(MissConfig),
    of!(C3AConfig),
    of!(RoadConfig),
    of!(DeloraConfig),
    of!(ShiraConfig),
    of!(BottleneckConfig),
    of!(PromptTuningConfig, PromptTuningConfig::read),
    of!(PromptEncoderConfig, PromptEncoderConfig::read),
    of!(PrefixTuningConfig, PrefixTuningConfig::read),
];

fn read<C: Keys + Method + 'static>(fields: Fields) -> Result<Arc<dyn Method>> {
    Ok(Arc::new(C::from_fields(fields)?))
}

type Registry = IndexMap<String, ReadConfig>;

static REGISTRY: LazyLock<RwLock<Registry>> = LazyLock::new(|| {
    let methods = METHODS.iter();
    RwLock::new(
        methods
            .map(|(name, read, _)| (name.to_string(), *read))
            .collect(),
    )
});

/// Registers a method of your own, so that its files can be loaded and training files can name it
/// (PEFT's `register_peft_method`). An earlier method of the same name is replaced.
pub fn register<C: Keys + Method + 'static>() {
    register_method(C::PEFT_TYPE, read::<C>);
}

/// Like [`register`], for a method that reads its keys itself.
pub fn register_method(peft_type: &str, read: ReadConfig) {
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    registry.insert(peft_type.to_string(), read);
}

fn registry() -> RwLockReadGuard<'static, Registry> {
    REGISTRY.read().unwrap_or_else(PoisonError::into_inner)
}

/// The `peft_type`s of all known methods.
pub fn peft_types() -> Vec<String> {
    registry().keys().cloned().collect()
}

/// The smallest file of a method.
fn smallest(peft_type: &str) -> Fields {
    let keys = [("peft_type".to_string(), peft_type.into())];
    Fields::new(keys.into_iter().collect(), peft_type)
}

/// The configuration of a method with every other key at its default; `None` if the method is not
/// known.
pub fn default_config(peft_type: &str) -> Option<Arc<dyn Method>> {
    let registry = registry();
    let read = registry.get(peft_type)?;
    read(smallest(peft_type)).ok()
}

/// Every key in the configuration of a method; `None` if the method is not known.
pub fn known_keys(peft_type: &str) -> Option<Vec<String>> {
    let config = default_config(peft_type)?;
    let optional = config.optional_keys().into_iter().map(str::to_string);
    Some(config.to_json().keys().cloned().chain(optional).collect())
}

/// The documentation of a key of a method; `None` if it has none, as keys of registered methods do.
pub fn key_doc(peft_type: &str, key: &str) -> Option<&'static str> {
    let own = METHODS.iter().find(|(name, ..)| *name == peft_type);
    let own = own.map_or(&[][..], |(.., docs)| docs);
    let shared = PromptLearning::KEY_DOCS
        .iter()
        .chain(CommonConfig::KEY_DOCS);
    let mut docs = own.iter().chain(shared);
    let (_, doc) = docs.find(|(name, doc)| *name == key && !doc.is_empty())?;
    Some(doc)
}

/// The configuration of a method with one key set, before its values are checked against each
/// other; `None` if the method is not known.
///
/// # Errors
/// The inner result is an error if the key does not take the value.
pub fn config_with_key(
    peft_type: &str,
    key: &str,
    value: serde_json::Value,
) -> Option<Result<Arc<dyn Method>>> {
    let registry = registry();
    let read = registry.get(peft_type)?;
    let keys = [
        ("peft_type".to_string(), peft_type.into()),
        (key.to_string(), value),
    ];
    Some(read(Fields::new(keys.into_iter().collect(), "[peft]")))
}

/// Whether a method adapts linear layers, as most do; false if the method is not known.
pub fn adapts_linear_layers(peft_type: &str) -> bool {
    supporting(&LayerInfo {
        path: String::new(),
        kind: LayerKind::Linear,
        d_in: 1,
        d_out: 1,
        conv: None,
        has_bias: false,
        is_input: false,
        is_output: false,
    })
    .iter()
    .any(|name| name == peft_type)
}

/// The `peft_type`s of the known methods that can adapt this layer.
pub(crate) fn supporting(layer: &LayerInfo) -> Vec<String> {
    let registry = registry();
    let methods = registry.iter();
    let able = methods.filter(|(name, read)| {
        read(smallest(name)).is_ok_and(|c| !c.acts_at_model() && c.supports(layer))
    });
    able.map(|(name, _)| name.clone()).collect()
}

/// The configuration that the keys of an `adapter_config.json` describe.
///
/// Unknown keys are kept, and reported through `tracing`.
///
/// # Errors
/// If `peft_type` is missing or not known, or if a value cannot be used.
pub fn config_from_fields(fields: Fields) -> Result<Arc<dyn Method>> {
    let source = fields.source().to_string();
    let config = checked(read_fields(fields)?, &source)?;
    let unknown = config.common().unknown.keys().cloned();
    let unknown: Vec<_> = unknown
        .filter(|key| !HEAD_KEYS.contains(&key.as_str()))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        tracing::warn!("{source}: unknown keys are kept but have no effect: {unknown}");
    }
    Ok(config)
}

/// Like [`config_from_fields`], for a file that a user writes for this crate: an unknown key is an
/// error, with the message that `problem` gives for it.
///
/// # Errors
/// As for [`config_from_fields`], and if a key is unknown.
pub fn config_of_known_keys(
    fields: Fields,
    problem: &dyn Fn(&str) -> String,
) -> Result<Arc<dyn Method>> {
    let source = fields.source().to_string();
    let config = read_fields(fields)?;
    match config.common().unknown.keys().next() {
        Some(key) => Err(PeftError::UnknownKey {
            key: key.clone(),
            problem: problem(key),
        }
        .within(source)),
        None => checked(config, &source),
    }
}

fn read_fields(fields: Fields) -> Result<Arc<dyn Method>> {
    let source = fields.source();
    let peft_type: Option<String> = fields.peek("peft_type")?;
    let registry = registry();
    let known: Vec<String> = registry.keys().cloned().collect();
    let Some(peft_type) = peft_type else {
        return Err(PeftError::MissingKey {
            key: "peft_type",
            problem: format!(
                "the key `peft_type` is missing; it names the method, one of {}",
                known.join(", ")
            ),
        }
        .within(source));
    };
    let Some(read) = registry.get(&peft_type) else {
        return Err(PeftError::UnknownMethod { peft_type, known }.within(source));
    };
    read(fields)
}

/// The configuration, after its keys are checked against each other.
fn checked(config: Arc<dyn Method>, source: &str) -> Result<Arc<dyn Method>> {
    let placed = |error: PeftError| error.within(source);
    config.common().validate().map_err(placed)?;
    config.validate().map_err(placed)?;
    Ok(config)
}
