//! What can be wrong with a model's configuration.

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not a JSON object.
    #[error("is not a JSON object: {0}")]
    NotJson(String),
    /// It is the configuration of an adapter.
    #[error("this is the configuration of an adapter (peft_type {peft_type}), not of a model")]
    Adapter {
        /// The adapter's method, as JSON.
        peft_type: String,
    },
    /// The file does not name its family.
    #[error("has no model_type; supported: {}", quoted(supported))]
    NoModelType {
        /// The families that are supported.
        supported: Vec<&'static str>,
    },
    /// The family is not supported.
    #[error(
        "model_type {model_type} is not supported; supported: {}",
        quoted(supported)
    )]
    Unsupported {
        /// The family, as JSON.
        model_type: String,
        /// The families that are supported.
        supported: Vec<&'static str>,
    },
    /// The name is not one of a published model.
    #[error("no preset `{name}`; the presets are: {}", presets.join(", "))]
    NoPreset {
        /// The name.
        name: String,
        /// The known names.
        presets: Vec<&'static str>,
    },
    /// An invalid value; the text names its key.
    #[error("{0}")]
    Value(String),
}

impl From<String> for ConfigError {
    fn from(reason: String) -> Self {
        Self::Value(reason)
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}
