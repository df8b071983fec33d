//! What every family's `config.json` provides, and how it is read and written.

mod of_keys;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::FloatDType;
use burn_peft::ModelInfo;
use burn_peft::files::CONFIG_NAME;
use burn_peft_files::{json_problem, plain_words, read_text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attribute_map::with_own_names;
use crate::config_error::ConfigError;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::heads::Head;
use crate::parts::Activation;
use crate::weights::weights_of;

pub(crate) use of_keys::{config_of_keys, of_class};

/// The largest model that this crate accepts, in parameters.
const MAX_PARAMETERS: usize = 100_000_000_000;
/// The largest single size accepted (positions, width, vocabulary, …).
pub(crate) const MAX_SIZE: usize = 1 << 24;
/// The largest number of blocks accepted.
pub(crate) const MAX_LAYERS: usize = 1_000;

/// A family's `config.json` as a struct, with transformers' keys and defaults. Keys that are not
/// used are kept and written back.
pub trait ModelConfig: Clone {
    /// The model it describes.
    type Model: Decoder<Config = Self>;

    /// The values of `model_type` that it reads.
    fn model_types() -> Vec<&'static str>;

    /// The published models for which [`preset`](Self::preset) has a configuration.
    fn presets() -> Vec<&'static str> {
        Vec::new()
    }

    /// Pairs of a name that transformers accepts in every family and this family's own name
    /// (`attribute_map`), such as `("hidden_size", "n_embd")`.
    const ATTRIBUTE_MAP: &'static [(&'static str, &'static str)] = &[];

    /// This family's own name for a key that transformers accepts in every family.
    fn own_name(name: &'static str) -> &'static str {
        let mut names = Self::ATTRIBUTE_MAP.iter();
        let own = names.find(|(other, _)| *other == name);
        own.map_or(name, |&(_, own)| own)
    }

    /// Reads the object of a `config.json` whose `model_type` is one of
    /// [`model_types`](Self::model_types). A serde struct does this with [`from_keys`].
    ///
    /// # Errors
    /// The first invalid key, with its value.
    fn from_map(keys: Map<String, Value>) -> std::result::Result<Self, ConfigError>;

    /// The object of a `config.json`; for a serde struct, [`keys_of`].
    fn to_map(&self) -> Map<String, Value>;

    /// The prefix that checkpoints put before the names of all weights but the head's, and may
    /// leave out: transformers' `base_model_prefix`, with a dot.
    fn prefix(&self) -> Cow<'static, str>;

    /// The names that a weight may have in a checkpoint, from its name in the model. It is written
    /// under the first.
    fn names_in_file(&self, name: &str) -> Vec<String> {
        let prefix = self.prefix();
        let other = if self.head().is_none() {
            // Here the name has no prefix.
            Some(format!("{prefix}{name}"))
        } else {
            name.strip_prefix(&*prefix).map(str::to_string)
        };
        [Some(name.to_string()), other]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Whether a tensor in a checkpoint is not a weight and is skipped, such as a stored mask.
    fn is_buffer(&self, _name: &str) -> bool {
        false
    }

    /// What is known about a model of any family.
    fn common(&self) -> CommonConfig;

    /// The head.
    fn head(&self) -> &Head;

    /// Sets the head, with the keys that describe it.
    fn set_head(&mut self, head: Head);

    /// The path of the head of this family's language model.
    fn language_head(&self) -> &str;

    /// Whether a weight belongs to a classifier's head, which checkpoints of language models lack.
    fn is_new_head(&self, name: &str) -> bool {
        let of_head = ["score.", "classifier."].iter();
        self.head().classifies() && of_head.clone().any(|head| name.starts_with(head))
    }

    /// Whether a weight that a checkpoint lacks is drawn at random, always the same: BERT's pooler,
    /// which checkpoints of the masked language model lack.
    fn is_optional(&self, _name: &str) -> bool {
        false
    }

    /// Sets whether the head shares the token embedding's weight.
    fn set_tie_word_embeddings(&mut self, tied: bool);

    /// Sets the size of the vocabulary.
    fn set_vocab_size(&mut self, rows: usize);

    /// The same with another number of blocks.
    fn with_layers(&self, layers: usize) -> Self;

    /// Rejects values that do not describe a model of this family, or sizes that no model has; the
    /// error names the key.
    ///
    /// # Errors
    /// The first invalid key, with its value.
    fn check(&self) -> std::result::Result<(), String>;

    /// The result of [`preset`](Self::preset) for a name in [`presets`](Self::presets).
    fn published(_name: &str) -> Option<Self> {
        None
    }

    /// The configuration of a published model of this family.
    ///
    /// # Errors
    /// If the name is not one of [`presets`](Self::presets).
    fn preset(name: &str) -> Result<Self> {
        Self::published(name).ok_or_else(|| no_preset(name, Self::presets()))
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If the file is missing, is not JSON, belongs to something else (an adapter, another
    /// `model_type`) or holds invalid values; the message names the key.
    fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        parse(read(path)?).map_err(ModelError::config(path))
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    fn from_json(text: &str) -> Result<Self> {
        Ok(object(text).and_then(parse)?)
    }

    /// The text of a `config.json` for weights in 32 bits, keys sorted as transformers sorts them.
    fn to_json(&self) -> String {
        self.to_json_with(FloatDType::F32)
    }

    /// The text of a `config.json` for weights of this type, which `dtype` names; for `F32`, only
    /// if the file had the key.
    fn to_json_with(&self, dtype: FloatDType) -> String {
        let mut map = self.to_map();
        set_dtype(&mut map, dtype);
        let map: BTreeMap<_, _> = map.into_iter().collect();
        format!("{:#}\n", Value::Object(map.into_iter().collect()))
    }

    /// The type of the weights beside the file: its `dtype` (or `torch_dtype`), if that is a type
    /// of 16 bits.
    fn dtype(&self) -> FloatDType {
        let map = self.to_map();
        let mut named = DTYPE_KEYS.iter().filter_map(|key| map.get(*key)?.as_str());
        match named.next() {
            Some("float16") => FloatDType::F16,
            Some("bfloat16") => FloatDType::BF16,
            _ => FloatDType::F32,
        }
    }

    /// Sets `dtype`, the type of the weights beside the file.
    fn set_dtype(&mut self, dtype: FloatDType);

    /// Checks that the values describe a model.
    ///
    /// # Errors
    /// The first invalid key, with its value.
    fn validate(&self) -> Result<()> {
        Ok(checked(self.clone()).map(drop)?)
    }

    /// The number of parameters; a tied head counts once. For a model whose blocks are alike, two
    /// of them are enough to compute it.
    fn num_parameters(&self) -> usize {
        let count = |layers| -> usize {
            let weights = weights_of(&self.with_layers(layers)).into_iter();
            weights
                .map(|weight| weight.shape.iter().product::<usize>())
                .sum()
        };
        let (one, two) = (count(1), count(2));
        one + self.common().num_hidden_layers.saturating_sub(1) * (two - one)
    }

    /// The tokens that end a text, without ids outside of the vocabulary.
    fn eos_token_ids(&self) -> Vec<usize> {
        self.common().eos_token_ids()
    }
}

/// What a configuration of any family provides.
#[derive(Clone, Debug, PartialEq)]
pub struct CommonConfig {
    /// The family's name.
    pub model_type: String,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_positions: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// How many of them have keys and values of their own.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether positions end at `max_positions`, as learnt positions do.
    pub has_last_position: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Whether the head shares the token embedding's weight.
    pub tie_word_embeddings: bool,
    /// Tokens that end a text.
    pub eos_token_id: Option<TokenIds>,
}

impl CommonConfig {
    /// The tokens that end a text, without ids outside of the vocabulary.
    pub fn eos_token_ids(&self) -> Vec<usize> {
        let ids = match &self.eos_token_id {
            None => &[][..],
            Some(TokenIds::One(id)) => std::slice::from_ref(id),
            Some(TokenIds::Many(ids)) => ids,
        };
        ids.iter()
            .filter_map(|&id| usize::try_from(id).ok())
            .filter(|&id| id < self.vocab_size)
            .collect()
    }

    /// What methods that act at the model need to know.
    pub fn model_info(&self) -> ModelInfo {
        ModelInfo {
            token_dim: self.hidden_size,
            num_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            max_positions: self.max_positions,
        }
    }
}

/// The keys for the type of the weights, in transformers 5 and 4.
const DTYPE_KEYS: [&str; 2] = ["dtype", "torch_dtype"];

/// Sets the type of the weights in a `config.json`, or in the part of it that may have the key.
pub(crate) fn set_dtype(map: &mut Map<String, Value>, dtype: FloatDType) {
    let name = match dtype {
        FloatDType::F16 => "float16",
        FloatDType::BF16 => "bfloat16",
        _ => "float32",
    };
    for key in DTYPE_KEYS {
        if let Some(found) = map.get_mut(key) {
            *found = name.into();
        }
    }
    if name != "float32" && !DTYPE_KEYS.iter().any(|key| map.contains_key(*key)) {
        map.insert(DTYPE_KEYS[0].into(), name.into());
    }
}

/// One token id or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an integer or a list of integers")]
pub enum TokenIds {
    /// A single id.
    One(i64),
    /// Several ids.
    Many(Vec<i64>),
}

/// Rejects a size that is 0 or too large; `sizes` are key, value and largest value.
pub(crate) fn check_sizes(sizes: &[(&str, usize, usize)]) -> std::result::Result<(), String> {
    for &(key, value, largest) in sizes {
        if value == 0 || value > largest {
            return Err(format!("{key} = {value} is not between 1 and {largest}"));
        }
    }
    Ok(())
}

/// Rejects a dropout outside of 0 to below 1.
pub(crate) fn check_dropouts(dropouts: &[(&str, f64)]) -> std::result::Result<(), String> {
    for &(key, value) in dropouts {
        if !(0.0..1.0).contains(&value) {
            return Err(format!("{key} = {value} is not a probability below 1"));
        }
    }
    Ok(())
}

/// Rejects a width that cannot be divided among the heads; both are key and value.
pub(crate) fn check_heads(
    (width_key, width): (&str, usize),
    (heads_key, heads): (&str, usize),
) -> std::result::Result<(), String> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(format!(
        "{width_key} = {width} is not a multiple of {heads_key} = {heads}"
    ))
}

/// Rejects an activation with trained parameters, for which `who` (`GPT-2 has`) has no place.
pub(crate) fn check_not_learnt(
    key: &str,
    activation: Activation,
    who: &str,
) -> std::result::Result<(), String> {
    if activation != Activation::Xielu {
        return Ok(());
    }
    Err(format!(
        "{key} = \"xielu\" is not supported: it is learnt, and {who} no place for that"
    ))
}

/// Rejects an epsilon that is not above 0.
pub(crate) fn check_epsilon(key: &str, epsilon: f64) -> std::result::Result<(), String> {
    if epsilon > 0.0 && epsilon.is_finite() {
        return Ok(());
    }
    Err(format!("{key} = {epsilon} is not above 0"))
}

/// Rejects a negative standard deviation of random weights.
pub(crate) fn check_initializer_range(range: f64) -> std::result::Result<(), String> {
    if range >= 0.0 && range.is_finite() {
        return Ok(());
    }
    Err(format!("initializer_range = {range} is negative"))
}

/// The JSON object in a `config.json`.
pub(crate) fn read(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() && path.with_file_name(CONFIG_NAME).exists() {
        let folder = path.parent().unwrap_or(path).to_path_buf();
        return Err(ModelError::Adapter { folder });
    }
    let text = read_text(path)?;
    object(&text).map_err(ModelError::config(path))
}

fn object(text: &str) -> std::result::Result<Map<String, Value>, ConfigError> {
    serde_json::from_str(text).map_err(|error| ConfigError::NotJson(json_problem(text, &error)))
}

/// The family that the file names.
pub(crate) fn model_type(map: &Map<String, Value>) -> std::result::Result<&str, ConfigError> {
    if let Some(method) = map.get("peft_type") {
        let peft_type = method.to_string();
        return Err(ConfigError::Adapter { peft_type });
    }
    let supported = crate::auto::model_types;
    match map.get("model_type") {
        Some(Value::String(family)) => Ok(family),
        Some(family) => Err(unsupported(family, supported())),
        None => Err(ConfigError::NoModelType {
            supported: supported(),
        }),
    }
}

/// The error for a family that is not one of `supported`.
pub(crate) fn unsupported(family: &Value, supported: Vec<&'static str>) -> ConfigError {
    ConfigError::Unsupported {
        model_type: family.to_string(),
        supported,
    }
}

/// The error for a name that is not one of `presets`.
pub(crate) fn no_preset(name: &str, presets: Vec<&'static str>) -> ModelError {
    let name = name.to_string();
    ConfigError::NoPreset { name, presets }.into()
}

/// A configuration from the object of its file.
pub(crate) fn parse<C: ModelConfig>(
    map: Map<String, Value>,
) -> std::result::Result<C, ConfigError> {
    let family = model_type(&map)?;
    let known = C::model_types();
    if !known.contains(&family) {
        return Err(unsupported(&family.into(), known));
    }
    let mut map = map;
    with_own_names(&mut map, C::ATTRIBUTE_MAP)?;
    checked(C::from_map(map)?)
}

/// A configuration from the keys of its file, for a serde struct.
///
/// # Errors
/// If a key has a value of the wrong type; the error has both.
pub fn from_keys<C: DeserializeOwned>(keys: Map<String, Value>) -> std::result::Result<C, String> {
    serde_json::from_value(Value::Object(keys.clone()))
        .map_err(|error| culprit::<C>(keys).unwrap_or_else(|| plain_words(&error.to_string())))
}

/// The keys of a configuration that is a serde struct.
pub fn keys_of(config: &impl Serialize) -> Map<String, Value> {
    let Ok(Value::Object(keys)) = serde_json::to_value(config) else {
        unreachable!("a struct of plain values is a JSON object");
    };
    keys
}

fn checked<C: ModelConfig>(config: C) -> std::result::Result<C, ConfigError> {
    config.check()?;
    let (common, parameters) = (config.common(), config.num_parameters());
    if parameters > MAX_PARAMETERS {
        return Err(ConfigError::Value(format!(
            "these sizes make {parameters} parameters, more than {MAX_PARAMETERS}: check {} = {}, \
             {} = {} and vocab_size = {}",
            C::own_name("hidden_size"),
            common.hidden_size,
            C::own_name("num_hidden_layers"),
            common.num_hidden_layers,
            common.vocab_size
        )));
    }
    Ok(config)
}

/// serde does not say which key had the wrong type: it is the one that fails by itself.
fn culprit<C: DeserializeOwned>(map: Map<String, Value>) -> Option<String> {
    map.into_iter().find_map(|(key, value)| {
        let shown = format!("{key} = {value}");
        let alone = Value::Object(Map::from_iter([(key, value)]));
        let error = serde_json::from_value::<C>(alone).err()?;
        Some(format!("{shown}: {}", plain_words(&error.to_string())))
    })
}
