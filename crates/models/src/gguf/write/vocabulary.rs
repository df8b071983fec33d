//! The tokens of a tokenizer, their types, and their merges.

use std::collections::HashMap;

use serde_json::Value;

use super::super::splits;
use super::KeyValue;
use super::tokenizer::{Keys, Source};
use crate::error::Result;

/// Token types of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// SentencePiece's space character.
const SPACE: &str = "▁";

/// What the keys say about a vocabulary.
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
    kind: Kind,
}

/// The tokenizer's algorithm.
enum Kind {
    /// Byte-level BPE.
    Bytes {
        pre: &'static str,
        merges: Vec<String>,
    },
    /// SentencePiece's BPE.
    Pieces { scores: Vec<f32>, puts_space: bool },
}

impl Vocabulary {
    pub fn new(source: &Source) -> Result<Self> {
        let model = &source.json["model"];
        let name = model["type"].as_str().unwrap_or("BPE");
        let Some(vocab) = model["vocab"].as_object().filter(|_| name == "BPE") else {
            return Err(source.error(format!(
                "is of the model {name}: only BPE is written to GGUF files"
            )));
        };
        let is_pieces = model["byte_fallback"] == true;
        let given = source.model.get("vocab_size").and_then(Value::as_u64);
        let largest = vocab.values().filter_map(Value::as_u64).max();
        let size = given.or(largest.map(|id| id + 1)).unwrap_or_default() as usize;
        let mut made = Self {
            tokens: (0..size).map(|id| format!("[PAD{id}]")).collect(),
            types: vec![UNUSED; size],
            kind: if is_pieces {
                Kind::Pieces {
                    scores: Vec::new(),
                    puts_space: puts_space(&source.json),
                }
            } else {
                bytes(source)?
            },
        };
        let unknown = model["unk_token"]
            .as_str()
            .or_else(|| source.named("unk_token"));
        let unknown = unknown.filter(|_| is_pieces);
        let mut beyond = Vec::new();
        for (token, id) in vocab {
            let kind = match token.as_str() {
                token if is_pieces && is_byte(token) => BYTE,
                token if Some(token) == unknown => UNKNOWN,
                _ => NORMAL,
            };
            beyond.extend(made.set(id.as_u64(), token, kind));
        }
        for (id, token, is_special) in added(source) {
            let kind = if Some(token) == unknown {
                UNKNOWN
            } else if is_special || looks_special(token) {
                CONTROL
            } else {
                USER_DEFINED
            };
            // llama.cpp looks for such a token in the unmodified text.
            let spelled = if kind == USER_DEFINED && is_pieces {
                token.replace(SPACE, " ")
            } else {
                token.to_string()
            };
            beyond.extend(made.set(id, &spelled, kind));
        }
        if let Some(token) = beyond.first() {
            tracing::warn!(
                "{}: {} tokens lie beyond the model's {size}, the first of them {token:?}: they are not \
                 written",
                source.path.display(),
                beyond.len()
            );
        }
        if let Kind::Pieces { scores, .. } = &mut made.kind {
            *scores = scores_of(&pairs(source)?, &made.tokens, &made.types);
        }
        Ok(made)
    }

    /// The number of tokens to write.
    pub fn number_of_tokens(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Sets the token at an index; returns it if there is no such index.
    fn set(&mut self, id: Option<u64>, token: &str, kind: i32) -> Option<String> {
        let place = id.and_then(|id| usize::try_from(id).ok());
        match place.filter(|&place| place < self.tokens.len()) {
            Some(place) => {
                self.tokens[place] = token.to_string();
                self.types[place] = kind;
                None
            }
            None => Some(token.to_string()),
        }
    }

    pub fn write(self, keys: &mut Keys) {
        let mut add = |key: &str, value| keys.add(format!("tokenizer.ggml.{key}"), value);
        let (model, pre) = match &self.kind {
            Kind::Bytes { pre, .. } => ("gpt2", *pre),
            Kind::Pieces { .. } => ("llama", "default"),
        };
        add("model", KeyValue::Text(model.into()));
        add("pre", KeyValue::Text(pre.into()));
        add("tokens", KeyValue::Texts(self.tokens));
        match self.kind {
            Kind::Bytes { merges, .. } => add("merges", KeyValue::Texts(merges)),
            Kind::Pieces { scores, puts_space } => {
                add("scores", KeyValue::F32s(scores));
                add("add_space_prefix", KeyValue::Flag(puts_space));
            }
        }
        add("token_type", KeyValue::I32s(self.types));
    }
}

/// Byte-level BPE with a splitting rule that llama.cpp has a name for.
fn bytes(source: &Source) -> Result<Kind> {
    let rule = &source.json["pre_tokenizer"];
    let ignores_merges = source.json["model"]["ignore_merges"] == true;
    let model_type = source.model.get("model_type").and_then(Value::as_str);
    let pre = splits::name_of(rule, ignores_merges, model_type.unwrap_or_default());
    let pre = pre.ok_or_else(|| {
        let mut rule = rule.to_string();
        if let Some((end, _)) = rule.char_indices().nth(300) {
            rule.truncate(end);
            rule.push('…');
        }
        source.error(format!(
            "pre_tokenizer = {rule}: llama.cpp has no rule (tokenizer.ggml.pre) that is known to \
             split texts like this; known: those of {}",
            splits::written()
        ))
    })?;
    let merges = pairs(source)?;
    let merges = merges
        .into_iter()
        .map(|(left, right)| format!("{left} {right}"));
    Ok(Kind::Bytes {
        pre,
        merges: merges.collect(),
    })
}

/// The merges, in either of the forms of `tokenizer.json`.
fn pairs(source: &Source) -> Result<Vec<(&str, &str)>> {
    let merges = source.json["model"]["merges"].as_array();
    let merges = merges.ok_or_else(|| source.error("has no model.merges, which BPE needs"))?;
    let mut found = Vec::with_capacity(merges.len());
    for (at, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(merge) => merge.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => {
                    Some((left.as_str(), right.as_str()))
                }
                _ => None,
            },
            _ => None,
        };
        let pair =
            pair.ok_or_else(|| source.error(format!("model.merges[{at}] = {merge}: not a pair")))?;
        found.push(pair);
    }
    Ok(found)
}

/// The added tokens: id, text, and whether they are special.
fn added(source: &Source) -> Vec<(Option<u64>, &str, bool)> {
    let mut found = Vec::new();
    let declared = source.config.get("added_tokens_decoder");
    let declared = declared.and_then(Value::as_object).into_iter().flatten();
    for (id, token) in declared {
        if let Some(text) = token["content"].as_str() {
            found.push((id.parse().ok(), text, token["special"] == true));
        }
    }
    for token in source.json["added_tokens"].as_array().into_iter().flatten() {
        if let Some(text) = token["content"].as_str() {
            found.push((token["id"].as_u64(), text, token["special"] == true));
        }
    }
    found
}

/// Whether a token looks like a chat marker, by the rule of llama.cpp's converter.
fn looks_special(token: &str) -> bool {
    let between = |start, end| token.starts_with(start) && token.ends_with(end);
    token == "<pad>" || token == "<mask>" || between("<|", "|>") || between("<｜", "｜>")
}

/// Whether a token stands for a byte (`<0x0A>`).
fn is_byte(token: &str) -> bool {
    let digits = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| {
        digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Whether a text gets a space before it.
fn puts_space(json: &Value) -> bool {
    fn finds(part: &Value) -> bool {
        let inner = ["normalizers", "pretokenizers"];
        let inner = inner.iter().filter_map(|key| part[*key].as_array());
        let here = match part["type"].as_str() {
            Some("Prepend") => true,
            Some("Metaspace") => match part["prepend_scheme"].as_str() {
                Some(scheme) => scheme != "never",
                None => part["add_prefix_space"] != false,
            },
            _ => false,
        };
        here || inner.flatten().any(finds)
    }
    finds(&json["normalizer"]) || finds(&json["pre_tokenizer"])
}

/// Scores by which SentencePiece merges in the same order: a token's score is the higher, the
/// earlier the first merge that makes it.
fn scores_of(merges: &[(&str, &str)], tokens: &[String], types: &[i32]) -> Vec<f32> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (left, right) in merges {
        let place = places.len();
        places.entry([*left, *right].concat()).or_insert(place);
    }
    let score = |(token, kind): (&String, &i32)| {
        let of_merge = || places.get(&token.replace(' ', SPACE));
        match *kind {
            NORMAL | USER_DEFINED => -(*of_merge().unwrap_or(&places.len()) as f32),
            _ => 0.0,
        }
    };
    tokens.iter().zip(types).map(score).collect()
}
