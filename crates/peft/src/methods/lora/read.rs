//! Reading LoRA's keys.

use crate::config::{
    Bias, CommonConfig, EvaConfig, Fields, InitLoraWeights, LoftQConfig, LoraConfig,
};
use crate::{PeftError, Result};
use indexmap::IndexMap;
use serde_json::{Value, json};

/// Keys that only have a meaning together with an unsupported key, with their defaults.
pub(super) fn inert_keys() -> [(&'static str, Value); 2] {
    [
        ("megatron_core", json!("megatron.core")),
        ("qalora_group_size", json!(16)),
    ]
}

/// Keys that change the computation and are not supported yet, with the defaults that turn them
/// off.
pub(super) fn unsupported_keys() -> [(&'static str, Value); 12] {
    [
        ("alora_invocation_tokens", Value::Null),
        ("arrow_config", Value::Null),
        ("corda_config", Value::Null),
        ("kasa_config", Value::Null),
        ("layer_replication", Value::Null),
        ("lora_ga_config", Value::Null),
        ("megatron_config", Value::Null),
        ("monteclora_config", Value::Null),
        ("target_parameters", Value::Null),
        ("use_bdlora", Value::Null),
        ("use_qalora", json!(false)),
        ("velora_config", Value::Null),
    ]
}

/// LoRA's keys that are written only if they are set or were in the file.
pub(crate) fn optional_keys() -> Vec<&'static str> {
    let keys = inert_keys().into_iter().chain(unsupported_keys());
    let keys = keys.map(|(key, _)| key);
    keys.chain(["eva_config", "loftq_config"]).collect()
}

/// LoRA's keys for variants that AdaLoRA does not have.
pub(crate) fn lora_variant_keys() -> Vec<(&'static str, Value)> {
    let mut keys: Vec<_> = inert_keys().into_iter().chain(unsupported_keys()).collect();
    keys.push(("ensure_weight_tying", json!(false)));
    keys.push(("eva_config", Value::Null));
    keys
}

impl LoraConfig {
    /// Reads the text of an `adapter_config.json`; `source` is the file name for errors.
    ///
    /// # Errors
    /// As for [`LoraConfig::from_fields`], and if the text is not a JSON object.
    pub fn from_json(text: &str, source: &str) -> Result<Self> {
        Self::from_fields(Fields::parse(text, source)?)
    }

    /// Reads a configuration. Unknown keys are kept; see [`LoraConfig::unknown_keys`].
    ///
    /// # Errors
    /// If `peft_type` is missing or not `LORA`, if a value has the wrong type or is out of range
    /// (see [`LoraConfig::validate`]), or if a key asks for something that is not supported.
    pub fn from_fields(fields: Fields) -> Result<Self> {
        let source = fields.source().to_string();
        let config = Self::unchecked(fields)?;
        config.validate().map_err(|error| error.within(source))?;
        Ok(config)
    }

    /// Like [`from_fields`](Self::from_fields), without checking the keys against each other.
    pub(crate) fn unchecked(mut fields: Fields) -> Result<Self> {
        check_peft_type(&mut fields)?;
        let mut config = Self {
            common: CommonConfig::from_fields(&mut fields)?,
            r: rank(&mut fields)?,
            lora_alpha: fields.take("lora_alpha", 8.0)?,
            lora_dropout: fields.take("lora_dropout", 0.0)?,
            bias: fields.take("bias", Bias::None)?,
            use_rslora: fields.take("use_rslora", false)?,
            init_lora_weights: init(&mut fields)?,
            rank_pattern: rank_pattern(&mut fields)?,
            alpha_pattern: fields.take("alpha_pattern", IndexMap::new())?,
            fan_in_fan_out: fields.take("fan_in_fan_out", false)?,
            lora_bias: fields.take("lora_bias", false)?,
            use_dora: fields.take("use_dora", false)?,
            ensure_weight_tying: fields.take("ensure_weight_tying", false)?,
            loftq_config: None,
            eva_config: None,
            trainable_token_indices: fields.take("trainable_token_indices", None)?,
        };
        (config.loftq_config, config.eva_config) = starts(&mut fields, &mut config.common)?;
        let off = &mut config.common.turned_off;
        for (key, default) in inert_keys() {
            if let Some(value) = fields.take_given(key) {
                off.insert(key.to_string(), value.unwrap_or(default));
            }
        }
        for (key, default) in unsupported_keys() {
            fields.take_turned_off(key, default, off)?;
        }
        config.common.unknown = fields.rest();
        Ok(config)
    }
}

fn check_peft_type(fields: &mut Fields) -> Result<()> {
    let expected = LoraConfig::PEFT_TYPE;
    match fields.take_value("peft_type") {
        Some(Value::String(name)) if name.eq_ignore_ascii_case(expected) => Ok(()),
        Some(other) => Err(fields.error(
            "peft_type",
            &other,
            &format!("this is not a LoRA adapter, whose peft_type is \"{expected}\""),
        )),
        None => Err(PeftError::MissingKey {
            key: "peft_type",
            problem: format!("peft_type is missing; a LoRA adapter says \"{expected}\""),
        }
        .within(fields.source())),
    }
}

/// Reads `r` as a signed number, so that a negative rank gets the same message as rank 0.
fn rank(fields: &mut Fields) -> Result<usize> {
    let r: i64 = fields.take("r", 8)?;
    positive(r).ok_or_else(|| fields.error("r", &json!(r), MUST_BE_POSITIVE))
}

fn rank_pattern(fields: &mut Fields) -> Result<IndexMap<String, usize>> {
    let ranks: IndexMap<String, i64> = fields.take("rank_pattern", IndexMap::new())?;
    let mut checked = IndexMap::with_capacity(ranks.len());
    for (pattern, rank) in ranks {
        let Some(positive) = positive(rank) else {
            let key = format!("rank_pattern {pattern:?}");
            return Err(fields.error(&key, &json!(rank), MUST_BE_POSITIVE));
        };
        checked.insert(pattern, positive);
    }
    Ok(checked)
}

const MUST_BE_POSITIVE: &str = "the rank must be a positive whole number";

fn positive(rank: i64) -> Option<usize> {
    usize::try_from(rank).ok().filter(|&rank| rank > 0)
}

/// The configurations of two initialisations: LoftQ's, for which PEFT writes `{}` if there is none,
/// and EVA's.
fn starts(
    fields: &mut Fields,
    common: &mut CommonConfig,
) -> Result<(Option<LoftQConfig>, Option<EvaConfig>)> {
    for (key, none) in [("loftq_config", json!({})), ("eva_config", Value::Null)] {
        let given = fields.peek::<Value>(key)?;
        let is_none = given.as_ref().is_none_or(|value| *value == none);
        if is_none && fields.take_given(key).is_some() {
            common.turned_off.insert(key.to_string(), none);
        }
    }
    Ok((
        fields.take("loftq_config", None)?,
        fields.take("eva_config", None)?,
    ))
}

const KNOWN_INITS: &str = "not supported; true, false, \"gaussian\", \"pissa\", \
                           \"pissa_niter_4\" (or another number), \"olora\", \
                           \"orthogonal\", \"loftq\" and \"eva\" are";

fn init(fields: &mut Fields) -> Result<InitLoraWeights> {
    match fields.take_value("init_lora_weights") {
        None | Some(Value::Bool(true)) => Ok(InitLoraWeights::True),
        Some(Value::Bool(false)) => Ok(InitLoraWeights::False),
        Some(Value::String(name)) => match name.as_str() {
            "gaussian" => Ok(InitLoraWeights::Gaussian),
            "pissa" => Ok(InitLoraWeights::Pissa { niter: None }),
            "olora" => Ok(InitLoraWeights::Olora),
            "orthogonal" => Ok(InitLoraWeights::Orthogonal),
            "loftq" => Ok(InitLoraWeights::Loftq),
            "eva" => Ok(InitLoraWeights::Eva),
            name => match name.strip_prefix("pissa_niter_").map(str::parse) {
                Some(Ok(niter)) => Ok(InitLoraWeights::Pissa { niter: Some(niter) }),
                _ => Err(fields.error("init_lora_weights", &Value::from(name), KNOWN_INITS)),
            },
        },
        Some(other) => Err(fields.error("init_lora_weights", &other, KNOWN_INITS)),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
