//! The keys of `adapter_config.json` that methods with virtual tokens share.

use serde_json::{Map, Value, json};

use crate::config::check::{SIDE, within};
use crate::config::{CommonConfig, Fields, LAYER_KEYS};
use crate::method::same_size;
use crate::{ModelInfo, PeftError, Result};

/// The keys of methods with virtual tokens, which act at the model (PEFT's `PromptLearningConfig`).
/// `None` is filled in from the model.
#[derive(Clone, Debug, Default, PartialEq, burn_peft_derive::KeyDocs)]
pub struct PromptLearning {
    /// The keys that all methods share; those that choose layers are empty.
    pub common: CommonConfig,
    /// The number of extra positions.
    pub num_virtual_tokens: usize,
    /// The width of an embedding.
    pub token_dim: Option<usize>,
    /// Two for models with encoder and decoder; here always one.
    pub num_transformer_submodules: Option<usize>,
    /// The number of attention heads.
    pub num_attention_heads: Option<usize>,
    /// The number of layers.
    pub num_layers: Option<usize>,
}

impl PromptLearning {
    /// This many virtual tokens, everything else from the model.
    pub fn new(num_virtual_tokens: usize) -> Self {
        Self {
            num_virtual_tokens,
            ..Self::default()
        }
    }

    /// Reads the shared keys. The caller reads its own and then sets `common.unknown` to
    /// [`Fields::rest`].
    ///
    /// # Errors
    /// If `peft_type` differs, a value has the wrong type, or a key chooses layers.
    pub fn from_fields(fields: &mut Fields, peft_type: &str) -> Result<Self> {
        let given: Option<String> = fields.take("peft_type", None)?;
        if given.as_deref() != Some(peft_type) {
            return Err(fields.error("peft_type", &json!(given), &format!("not {peft_type:?}")));
        }
        for key in LAYER_KEYS {
            if let Some(value) = fields.take_value(key) {
                let reason = format!(
                    "{peft_type} acts at the model and adapts no layers: leave the key out"
                );
                return Err(fields.error(key, &value, &reason));
            }
        }
        Ok(Self {
            common: CommonConfig::from_fields(fields)?,
            num_virtual_tokens: fields.take("num_virtual_tokens", 0)?,
            token_dim: fields.take("token_dim", None)?,
            num_transformer_submodules: fields.take("num_transformer_submodules", None)?,
            num_attention_heads: fields.take("num_attention_heads", None)?,
            num_layers: fields.take("num_layers", None)?,
        })
    }

    /// The shared keys and `peft_type`, and a method's `own` keys.
    pub fn to_json<const N: usize>(
        &self,
        peft_type: &str,
        own: [(&'static str, Value); N],
    ) -> Map<String, Value> {
        let mut map = self.common.to_json(peft_type);
        for key in LAYER_KEYS {
            map.shift_remove(key);
        }
        let shared = [
            ("num_virtual_tokens", json!(self.num_virtual_tokens)),
            ("token_dim", json!(self.token_dim)),
            (
                "num_transformer_submodules",
                json!(self.num_transformer_submodules),
            ),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_layers", json!(self.num_layers)),
        ];
        let keys = shared.into_iter().chain(own);
        map.extend(keys.map(|(key, value)| (key.to_string(), value)));
        map
    }

    /// Checks everything that does not depend on the model.
    ///
    /// # Errors
    /// If there are no virtual tokens, or more than any model has positions.
    pub fn validate(&self) -> Result<()> {
        match self.num_virtual_tokens {
            0 => Err(PeftError::MissingKey {
                key: "num_virtual_tokens",
                problem: "num_virtual_tokens = 0, or missing: must be a positive whole number, \
                          such as 20"
                    .into(),
            }),
            tokens => within("num_virtual_tokens", tokens, SIDE),
        }
    }

    /// The same, with missing values filled in from the model.
    ///
    /// # Errors
    /// If a given size is not the model's, or no position remains for text.
    pub fn fitted(&self, model: &ModelInfo) -> Result<Self> {
        self.validate()?;
        let (tokens, positions) = (self.num_virtual_tokens, model.max_positions);
        if tokens >= positions {
            return Err(PeftError::value(
                "num_virtual_tokens",
                tokens,
                format!("leaves none of the model's {positions} positions for text"),
            ));
        }
        let heads = self.num_attention_heads;
        Ok(Self {
            token_dim: same_size("token_dim", self.token_dim, model.token_dim).map(Some)?,
            num_transformer_submodules: same_size(
                "num_transformer_submodules",
                self.num_transformer_submodules,
                1,
            )
            .map(Some)?,
            num_attention_heads: same_size("num_attention_heads", heads, model.num_attention_heads)
                .map(Some)?,
            num_layers: same_size("num_layers", self.num_layers, model.num_layers).map(Some)?,
            ..self.clone()
        })
    }
}

/// The functions of [`Method`](crate::Method) that are the same for all configurations that have a
/// field `prompt: PromptLearning` and a constant `PEFT_TYPE` and implement
/// [`AtModel`](crate::AtModel).
#[macro_export]
macro_rules! method_of_prompt {
    ($class:literal) => {
        fn peft_type(&self) -> &str {
            Self::PEFT_TYPE
        }

        fn class_name(&self) -> &str {
            $class
        }

        fn common(&self) -> &$crate::config::CommonConfig {
            &self.prompt.common
        }

        fn with_common(
            &self,
            common: $crate::config::CommonConfig,
        ) -> std::sync::Arc<dyn $crate::Method> {
            let mut config = self.clone();
            config.prompt.common = common;
            std::sync::Arc::new(config)
        }

        fn at_model(&self) -> Option<&dyn $crate::AtModel> {
            Some(self)
        }
    };
}
