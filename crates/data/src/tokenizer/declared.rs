//! What the files beside a tokenizer declare, in the order in which transformers 5 reads them.

use crate::error::TokenizerProblem;
use burn_peft_files::read_text;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::AddedToken;

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
/// The special tokens that every tokenizer of transformers has, in the order in which it adds them.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The class of a GPT-2 model's tokenizer, which always splits a text into bytes, with a space
/// before it or without, whatever `tokenizer.json` says.
pub(super) const GPT2: &str = "GPT2Tokenizer";

type Result<T> = std::result::Result<T, TokenizerProblem>;

/// What the files declare.
#[derive(Default)]
pub(super) struct Declared {
    /// transformers' class of the tokenizer, without `Fast`.
    pub class: Option<String>,
    /// `bos_token`, `eos_token` and so on, in the order in which they are added.
    pub named: Vec<(String, AddedToken)>,
    /// Further special tokens.
    pub extra: Vec<AddedToken>,
    /// The added tokens by id.
    pub added: BTreeMap<u32, AddedToken>,
    /// Whether [`added`](Self::added) comes from `added_tokens_decoder`, and so is complete.
    pub added_are_all: bool,
    /// Whether a text gets a space before it, if a file says so.
    pub add_prefix_space: Option<bool>,
    /// Whether a text gets the token that begins a text, if a file says so.
    pub add_bos_token: Option<bool>,
    /// The same for the token that ends a text.
    pub add_eos_token: Option<bool>,
    /// Whether special tokens in a text are read as ordinary text.
    pub split_special_tokens: bool,
    /// The first `eos_token_id` of the model's `config.json`.
    pub eos_token_id: Option<u32>,
    /// The `chat_template` of `tokenizer_config.json`.
    pub chat_template: Value,
    /// The settings that the files contradict each other in.
    pub disagreements: Vec<String>,
}

impl Declared {
    /// Reads the files in a folder, any of which may be missing.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut config = object(folder, CONFIG)?;
        let map = object(folder, SPECIAL_TOKENS_MAP)?;
        let added = object(folder, ADDED_TOKENS)?;
        let model = object(folder, "config.json")?;
        let mut said = Self {
            class: class(&config, &model),
            add_prefix_space: flag(&config, "add_prefix_space")?,
            add_bos_token: flag(&config, "add_bos_token")?,
            add_eos_token: flag(&config, "add_eos_token")?,
            split_special_tokens: flag(&config, "split_special_tokens")?.unwrap_or(false),
            eos_token_id: first_id(model.get("eos_token_id")),
            chat_template: config.remove("chat_template").unwrap_or_default(),
            added_are_all: config.contains_key("added_tokens_decoder"),
            ..Self::default()
        };
        said.compare(&config, &map);
        let from_map = if said.added_are_all { Map::new() } else { map };
        said.read_special_tokens(&config, &from_map)?;
        said.read_added_tokens(&config, added)?;
        Ok(said)
    }

    /// Whether transformers builds a [`GPT2`] tokenizer.
    pub fn is_gpt2(&self) -> bool {
        self.class.as_deref() == Some(GPT2)
    }

    /// A special token by its name.
    pub fn special_token(&self, name: &str) -> Option<&str> {
        let found = self.named.iter().find(|(key, _)| key == name);
        found.map(|(_, token)| token.content.as_str())
    }

    /// Notes the special tokens that the two files name differently.
    fn compare(&mut self, config: &Map<String, Value>, map: &Map<String, Value>) {
        for (key, value) in map.iter().filter(|(key, _)| key.ends_with("_token")) {
            let (Some(here), Some(there)) = (content(value), config.get(key).and_then(content))
            else {
                continue;
            };
            if here != there {
                let (used, file) = if self.added_are_all {
                    (there, CONFIG)
                } else {
                    (here, SPECIAL_TOKENS_MAP)
                };
                self.disagreements.push(format!(
                    "{key} is {there:?} in {CONFIG} and {here:?} in {SPECIAL_TOKENS_MAP}: \
                     {used:?} of {file} counts, as in transformers; make both say the same"
                ));
            }
        }
    }

    fn read_special_tokens(
        &mut self,
        config: &Map<String, Value>,
        map: &Map<String, Value>,
    ) -> Result<()> {
        let mut named = |key: &str, value: &Value, file: &str| -> Result<()> {
            if !value.is_null() {
                let token = token(value, key, file)?;
                self.named.push((key.into(), token));
            }
            Ok(())
        };
        for key in NAMED {
            let (of_map, of_config) = (map.get(key), config.get(key));
            if let Some(value) = of_map {
                named(key, value, SPECIAL_TOKENS_MAP)?;
            } else if let Some(value) = of_config {
                named(key, value, CONFIG)?;
            }
        }
        // A model's own, such as `image_token`.
        for (fields, file) in [(map, SPECIAL_TOKENS_MAP), (config, CONFIG)] {
            let own = fields.iter().filter(|(key, value)| {
                key.ends_with("_token")
                    && !NAMED.contains(&key.as_str())
                    && content(value).is_some()
            });
            for (key, value) in own {
                named(key, value, file)?;
            }
            if let Some(Value::Object(more)) = fields.get("extra_special_tokens") {
                for (key, value) in more {
                    named(key, value, file)?;
                }
            }
        }
        for (fields, file) in [(config, CONFIG), (map, SPECIAL_TOKENS_MAP)] {
            for key in ["extra_special_tokens", "additional_special_tokens"] {
                // transformers reads those of the map if the other file has none.
                let other = config.get(key).filter(|other| !other.is_null());
                if let (SPECIAL_TOKENS_MAP, "additional_special_tokens", Some(other)) =
                    (file, key, other)
                {
                    if map.get(key).is_some_and(|here| here != other) {
                        self.disagreements.push(format!(
                            "{key} is another list in {CONFIG} than in {SPECIAL_TOKENS_MAP}: that \
                             of {CONFIG} counts, as in transformers; make both say the same"
                        ));
                    }
                    continue;
                }
                for value in fields
                    .get(key)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    let token = token(value, key, file)?;
                    if !self.extra.contains(&token) {
                        self.extra.push(token);
                    }
                }
            }
        }
        Ok(())
    }

    fn read_added_tokens(
        &mut self,
        config: &Map<String, Value>,
        added: Map<String, Value>,
    ) -> Result<()> {
        if let Some(decoder) = config.get("added_tokens_decoder") {
            let decoder = decoder.as_object();
            let decoder = decoder.ok_or(TokenizerProblem::NoDecoder(CONFIG))?;
            for (id, value) in decoder {
                let number = id.parse().map_err(|_| TokenizerProblem::NoKey {
                    file: CONFIG,
                    key: id.clone(),
                })?;
                let token = added_token(value, false);
                let mut token = token.ok_or_else(|| TokenizerProblem::NoAddedToken {
                    file: CONFIG,
                    id: id.clone(),
                    value: value.to_string(),
                })?;
                token.special |= self.is_special(&token.content);
                self.added.insert(number, token);
            }
        }
        for (content, id) in added {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| TokenizerProblem::NoId {
                file: ADDED_TOKENS,
                token: content.clone(),
            })?;
            let special = self.is_special(&content);
            if !self.added_are_all {
                self.added.insert(id, AddedToken::from(content, special));
            } else if !self.added.values().any(|token| token.content == content) {
                self.disagreements.push(format!(
                    "{ADDED_TOKENS} has the token {content:?}, and added_tokens_decoder of \
                     {CONFIG}, which counts, has not: it is no token, as in transformers"
                ));
            }
        }
        Ok(())
    }

    fn is_special(&self, content: &str) -> bool {
        let mut all = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        all.any(|token| token.content == content)
    }
}

/// transformers' class: the one the files name, or else that of the model's family.
fn class(config: &Map<String, Value>, model: &Map<String, Value>) -> Option<String> {
    let named = [config, model].into_iter();
    let named = named.filter_map(|fields| fields.get("tokenizer_class")?.as_str());
    let class = named
        .map(|class| class.strip_suffix("Fast").unwrap_or(class))
        .next();
    let of_family = || {
        let is_gpt2 = model
            .get("model_type")
            .is_some_and(|family| family == "gpt2");
        is_gpt2.then_some(GPT2)
    };
    class.or_else(of_family).map(Into::into)
}

/// A special token, given as its text or as an object.
fn token(value: &Value, key: &str, file: &str) -> Result<AddedToken> {
    let token = match value {
        Value::String(content) => Some(AddedToken::from(content, true)),
        _ => added_token(value, true),
    };
    token.ok_or_else(|| TokenizerProblem::NoToken {
        key: key.into(),
        file: file.into(),
        value: value.to_string(),
    })
}

/// A token given as an object; missing keys have transformers' defaults.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let is = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = special || is("special").unwrap_or(false);
    Some(AddedToken {
        content: value.get("content")?.as_str()?.into(),
        single_word: is("single_word").unwrap_or(false),
        lstrip: is("lstrip").unwrap_or(false),
        rstrip: is("rstrip").unwrap_or(false),
        normalized: is("normalized").unwrap_or(!special),
        special,
    })
}

fn content(token: &Value) -> Option<&str> {
    token.get("content").unwrap_or(token).as_str()
}

fn flag(config: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(TokenizerProblem::NoFlag {
            key: key.into(),
            file: CONFIG,
            value: other.to_string(),
        }),
    }
}

/// The first of one id or several.
fn first_id(ids: Option<&Value>) -> Option<u32> {
    let id = ids.map(|ids| ids.get(0).unwrap_or(ids))?;
    id.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// The keys of a JSON file; none if there is no file.
fn object(folder: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = folder.join(name);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(Map::new()),
        Err(error) => return Err(TokenizerProblem::Unreadable(error.to_string())),
    };
    serde_json::from_str(&text).map_err(|error| TokenizerProblem::NoObject {
        file: path,
        error: error.to_string(),
    })
}
