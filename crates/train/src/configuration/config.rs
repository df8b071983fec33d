//! The training file: what is trained, on what, and how.

use std::path::PathBuf;

use burn_peft::FrozenForm;
use burn_peft_data::DataConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::checkpoint::files::write_atomically;
use crate::configuration::arguments::TrainingArguments;
use crate::configuration::distributed::DistributedConfig;
use crate::configuration::one_or_several;
use crate::configuration::quantization::BitsAndBytesConfig;
use crate::configuration::schema;
use crate::error::{ConfigProblem, Result, TrainError};
use crate::objective::classify::ClassifyConfig;
use crate::objective::embed::EmbedConfig;
use crate::objective::preference::{CpoConfig, DpoConfig, KtoConfig, OrpoConfig};
use crate::objective::registry::Kind;
use crate::objective::reward::RewardConfig;
use crate::objective::tag::TagConfig;

/// The name of the file in the output folder with which the run can be repeated.
pub(crate) const CONFIG_NAME: &str = "config.toml";

/// A training file (TOML).
///
/// ```
/// let config = burn_peft_train::TrainConfig::from_toml(
///     r#"
///     model = "gpt2"
///     [data]
///     train = "reviews.jsonl"
///     [peft]
///     peft_type = "LORA"
///     r = 8
///     [training]
///     output_dir = "out"
///     "#,
///     "example.toml",
///     &["training.max_steps=20"],
/// )?;
/// assert_eq!(config.training.max_steps, 20);
/// # Ok::<(), burn_peft_train::TrainError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "A training file of peft",
    description = "See docs/training.md."
)]
pub struct TrainConfig {
    /// A folder with `config.json` and `model.safetensors`, or the id of a model on the Hub.
    pub model: String,
    /// The folder or file of the tokenizer, if it is not in the model's folder.
    #[serde(default)]
    pub tokenizer: Option<String>,
    /// A text, or several, to continue before and after training; for chats, what the user asks.
    #[serde(default, with = "one_or_several")]
    #[schemars(schema_with = "schema::one_or_several::<String>")]
    pub prompt: Option<Vec<String>>,
    /// The folder of a saved adapter to continue training, instead of `[peft]`.
    #[serde(default)]
    pub adapter: Option<String>,
    /// The data.
    pub data: DataConfig,
    /// A new adapter: the keys of `adapter_config.json`. With `peft_type = "NONE"`, all weights of
    /// the model are trained instead, and the other keys are ignored.
    #[serde(default)]
    #[schemars(schema_with = "schema::peft_table")]
    pub peft: Option<Map<String, Json>>,
    /// How the model's frozen weights are quantised, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization_config: Option<BitsAndBytesConfig>,
    /// How often several ranks exchange what they have learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributed: Option<DistributedConfig>,
    /// The reference policy of an objective that compares answers: `base` for the model alone, or
    /// the folder of an adapter. Unless set, it is the model as it is at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How it is trained.
    pub training: TrainingArguments,
    /// The keys of the objective `dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoConfig>,
    /// The keys of the objective `kto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kto: Option<KtoConfig>,
    /// The keys of the objective `orpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orpo: Option<OrpoConfig>,
    /// The keys of the objective `cpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpo: Option<CpoConfig>,
    /// The keys of the objective `classify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classify: Option<ClassifyConfig>,
    /// The keys of the objective `tag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagConfig>,
    /// The keys of the objective `embed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed: Option<EmbedConfig>,
    /// The keys of the objective `reward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardConfig>,
}

impl TrainConfig {
    /// How the frozen weights are quantised, if they are.
    pub fn quantization(&self) -> Option<FrozenForm> {
        let config = self.quantization_config.as_ref()?;
        config.quantization(self.training.frozen_dtype())
    }

    /// The layers whose weights are not quantised with the others.
    pub fn skip_modules(&self) -> &[String] {
        let config = self.quantization_config.as_ref();
        config.map_or(&[], BitsAndBytesConfig::skip_modules)
    }

    /// What the model is trained for.
    pub fn objective(&self) -> &'static Kind {
        self.training.objective.kind()
    }

    /// Whether all weights of the model are trained (`peft_type = "NONE"`).
    pub fn is_full_training(&self) -> bool {
        let peft_type = self.peft.as_ref().and_then(|peft| peft.get("peft_type"));
        peft_type
            .and_then(Json::as_str)
            .is_some_and(|name| name.eq_ignore_ascii_case("none"))
    }

    /// The file that repeats this run, with all defaults written out.
    ///
    /// # Errors
    /// If a value of `[peft]` cannot be written in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| {
            let problem = ConfigProblem::NoToml(error.to_string());
            TrainError::config("the configuration", problem)
        })
    }

    /// Writes [`to_toml`](Self::to_toml) to `config.toml` in the output folder, which is created if
    /// necessary.
    ///
    /// # Errors
    /// If the folder or the file cannot be written; the error names it.
    pub fn save(&self) -> Result<PathBuf> {
        let dir = &self.training.output_dir;
        std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
        let path = dir.join(CONFIG_NAME);
        write_atomically(&path, self.to_toml()?.as_bytes())?;
        Ok(path)
    }
}
