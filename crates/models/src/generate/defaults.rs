//! Default settings for generation, from the model's own files.

use std::path::Path;

use burn_peft_files::read_text;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::GenerationConfig;
use crate::config::TokenIds;
use crate::hub::ModelFiles;
use crate::{ModelError, Result};

/// The file with a model's settings for generation.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Keys of `generation_config.json` that affect generation but are not supported, each with the
/// value that has no effect.
const NOT_USED: [(&str, f64); 9] = [
    ("num_beams", 1.0),
    ("min_new_tokens", 0.0),
    ("min_length", 0.0),
    ("no_repeat_ngram_size", 0.0),
    ("penalty_alpha", 0.0),
    ("typical_p", 1.0),
    ("min_p", 0.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
];
/// As [`NOT_USED`], for keys that have no effect if they are missing.
const NOT_USED_LISTS: [&str; 7] = [
    "bad_words_ids",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "sequence_bias",
    "stop_strings",
    "suppress_tokens",
];

/// What `generation_config.json` and `config.json` say: where a text ends, and how the model's
/// authors sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// How the next token is chosen; without `do_sample` always the most likely, as in
    /// transformers. A text ends at any of [`eos_token_ids`](Self::eos_token_ids).
    pub config: GenerationConfig,
    /// The number of tokens to add, if given.
    pub max_new_tokens: Option<usize>,
    /// The number of tokens including the prompt, if given; `max_new_tokens` takes precedence.
    pub max_length: Option<usize>,
    /// The tokens that end a text, by the file that names them.
    pub eos_token_ids: Vec<(&'static str, Vec<u32>)>,
    /// The token that fills a row after its end while others continue: `pad_token_id`, or else the
    /// first token that ends a text.
    pub pad_token_id: Option<u32>,
    /// The keys of `generation_config.json` that have no effect here.
    pub not_used: Vec<String>,
}

/// The keys of `generation_config.json` that are used.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Keys {
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    repetition_penalty: Option<f64>,
    max_new_tokens: Option<usize>,
    max_length: Option<usize>,
}

impl GenerationDefaults {
    /// Reads a model's files; without `generation_config.json`, `config.json` alone.
    ///
    /// # Errors
    /// If a file cannot be read, or a value is out of range; the error names the key.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let mut said = Self::default();
        for name in ["config.json", GENERATION_CONFIG] {
            let Some(path) = files.find(name)? else {
                continue;
            };
            let values = object(&path)?;
            let ids = token_ids(&path, "eos_token_id", values.get("eos_token_id"))?;
            let pad = token_ids(&path, "pad_token_id", values.get("pad_token_id"))?;
            if name == GENERATION_CONFIG {
                said.read_sampling(values)
                    .map_err(|reason| ModelError::file(&path, reason))?;
            }
            // The later file takes precedence, as in transformers.
            let pad = pad.first().or(ids.first()).copied();
            said.pad_token_id = pad.or(said.pad_token_id);
            if !ids.is_empty() {
                said.eos_token_ids.push((name, ids));
            }
        }
        let ids = said.eos_token_ids.iter().flat_map(|(_, ids)| ids.clone());
        let ids: Vec<u32> = ids.collect();
        said.end_at(ids);
        Ok(said)
    }

    /// Adds tokens that end a text, such as the tokenizer's.
    pub fn end_at(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.config.eos_token_ids.contains(&id) {
                self.config.eos_token_ids.push(id);
            }
        }
    }

    fn read_sampling(&mut self, values: Map<String, Value>) -> std::result::Result<(), String> {
        let number = |key: &str| values.get(key).and_then(Value::as_f64);
        let not_used = NOT_USED.into_iter();
        let not_used = not_used.filter(|(key, none)| number(key).is_some_and(|n| n != *none));
        let lists = NOT_USED_LISTS.into_iter();
        let lists = lists.filter(|key| values.get(*key).is_some_and(|value| !value.is_null()));
        let not_used = not_used.map(|(key, _)| key).chain(lists);
        self.not_used = not_used.map(Into::into).collect();
        for (key, value) in &values {
            // serde does not say which key has the wrong type.
            let alone = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
            Keys::deserialize(alone).map_err(|error| format!("{key} = {value}: {error}"))?;
        }
        let keys = Keys::deserialize(Value::Object(values)).map_err(|error| error.to_string())?;
        let sampled = keys.do_sample.unwrap_or(false);
        let greedy = GenerationConfig::default();
        self.config = GenerationConfig {
            temperature: keys
                .temperature
                .filter(|_| sampled)
                .unwrap_or(f64::from(sampled)),
            top_k: keys.top_k.unwrap_or(greedy.top_k),
            top_p: keys.top_p.unwrap_or(greedy.top_p),
            repetition_penalty: keys.repetition_penalty.unwrap_or(greedy.repetition_penalty),
            max_new_tokens: keys.max_new_tokens.unwrap_or(greedy.max_new_tokens),
            ..greedy
        };
        (self.max_new_tokens, self.max_length) = (keys.max_new_tokens, keys.max_length);
        if keys.max_new_tokens == Some(0) {
            return Err("max_new_tokens = 0: it has to be 1 or more".into());
        }
        self.config.validate().map_err(|error| error.to_string())
    }
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    let text = read_text(path)?;
    let bad = |error| ModelError::file(path, format!("is not a JSON object: {error}"));
    serde_json::from_str(&text).map_err(bad)
}

/// One id, several or none. Negative ids mean none.
fn token_ids(path: &Path, key: &str, value: Option<&Value>) -> Result<Vec<u32>> {
    let ids = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => TokenIds::deserialize(value)
            .map_err(|error| ModelError::file(path, format!("{key} = {value}: {error}")))?,
    };
    let ids = match ids {
        TokenIds::One(id) => vec![id],
        TokenIds::Many(ids) => ids,
    };
    Ok(ids
        .into_iter()
        .filter_map(|id| u32::try_from(id).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(config: &str, generation: Option<&str>) -> Result<GenerationDefaults> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        if let Some(text) = generation {
            fs::write(dir.path().join(GENERATION_CONFIG), text).unwrap();
        }
        GenerationDefaults::read(&ModelFiles::folder(dir.path()))
    }

    #[test]
    fn text_ends_at_the_tokens_of_both_files() {
        let said = read(
            r#"{"eos_token_id": 3}"#,
            Some(r#"{"eos_token_id": [0, 3, 7]}"#),
        );
        let mut said = said.unwrap();
        assert_eq!(said.config.eos_token_ids, [3, 0, 7]);
        let by_file = [("config.json", vec![3]), (GENERATION_CONFIG, vec![0, 3, 7])];
        assert_eq!(said.eos_token_ids, by_file);
        said.end_at([7, 9]);
        assert_eq!(said.config.eos_token_ids, [3, 0, 7, 9]);
        let pad = |config: &str, generation| read(config, generation).unwrap().pad_token_id;
        let both = r#"{"eos_token_id": 3, "pad_token_id": 4}"#;
        assert_eq!(pad(both, None), Some(4));
        assert_eq!(pad(both, Some(r#"{"pad_token_id": 5}"#)), Some(5));
        assert_eq!(pad(both, Some(r#"{"eos_token_id": [6, 7]}"#)), Some(6));
        assert_eq!(pad(both, Some("{}")), Some(4));
        let none = read(r#"{"eos_token_id": null}"#, None).unwrap();
        assert_eq!(none, GenerationDefaults::default());
    }

    /// As transformers' `generate` does with this file and no arguments.
    #[test]
    fn sampling_values_count_where_do_sample_says_so() {
        let config = |text: &str| read("{}", Some(text)).unwrap().config;
        let sampled = config(r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9}"#);
        assert_eq!(
            (sampled.temperature, sampled.top_p, sampled.top_k),
            (0.6, 0.9, 50)
        );
        assert_eq!(config(r#"{"do_sample": true}"#).temperature, 1.0);
        assert_eq!(config(r#"{"temperature": 0.6}"#).temperature, 0.0);
        let penalty = config(r#"{"repetition_penalty": 1.1, "top_k": 5}"#);
        assert_eq!((penalty.repetition_penalty, penalty.top_k), (1.1, 5));
        let long = read("{}", Some(r#"{"max_new_tokens": 9, "max_length": 20}"#)).unwrap();
        assert_eq!((long.max_new_tokens, long.max_length), (Some(9), Some(20)));
        let more = r#"{"num_beams": 4, "typical_p": 1.0, "bad_words_ids": [[1]], "min_p": null}"#;
        let more = read("{}", Some(more)).unwrap();
        assert_eq!(more.not_used, ["num_beams", "bad_words_ids"]);
    }

    #[test]
    fn values_out_of_range_are_named_with_their_file() {
        for (text, named) in [
            (
                r#"{"do_sample": true, "temperature": -1}"#,
                "temperature = -1",
            ),
            (r#"{"top_p": 1.5}"#, "top_p = 1.5"),
            (r#"{"top_k": -3}"#, "top_k = -3"),
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens = 0"),
            (r#"{"eos_token_id": "x"}"#, "eos_token_id = \"x\""),
            ("[]", "is not a JSON object"),
        ] {
            let error = read("{}", Some(text)).unwrap_err().to_string();
            assert!(
                error.contains(GENERATION_CONFIG) && error.contains(named),
                "{error}"
            );
        }
    }
}
