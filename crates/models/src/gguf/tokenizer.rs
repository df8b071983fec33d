//! Making `tokenizer.json` and `tokenizer_config.json` from a file's keys.

use serde_json::{Map, Value, json};

use super::Gguf;
use super::pieces;
use super::splits::Split;
use crate::error::Result;

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
/// The token types that are never split: control tokens, and tokens that a user has added.
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

/// The contents of a tokenizer's files.
#[derive(Debug)]
pub(super) struct Files {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub config: Value,
}

/// A kind of tokenizer.
struct Kind {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    adds_bos: bool,
}

/// The tokenizer in a file; `None` if it has none, or an unknown one, which is logged.
///
/// # Errors
/// If a key is missing or of another type.
pub(super) fn tokenizer(file: &Gguf, architecture: &str) -> Result<Option<Files>> {
    let Some(model) = file.text("tokenizer.ggml.model")? else {
        return Ok(None);
    };
    let tokens = file.texts(TOKENS)?.ok_or_else(|| file.missing(TOKENS))?;
    let unknown = |key: &str, value: &str| {
        tracing::warn!(
            "{}: {key} = {value:?} is a tokenizer that is not known here: name one with --tokenizer",
            file.path().display()
        );
    };
    let pre = file.text("tokenizer.ggml.pre")?;
    let kind = match model {
        "gpt2" => {
            let pre = pre.unwrap_or("default");
            let Some(split) = Split::of(pre) else {
                unknown("tokenizer.ggml.pre", pre);
                return Ok(None);
            };
            byte_level(file, &tokens, split)?
        }
        "llama" => sentence_pieces(file, &tokens, architecture)?,
        other => {
            unknown("tokenizer.ggml.model", other);
            return Ok(None);
        }
    };
    let named = |name: &str| -> Result<Option<(&str, u64)>> {
        let id = file.token(name)?;
        Ok(id.and_then(|id| Some((*tokens.get(usize::try_from(id).ok()?)?, id))))
    };
    let (bos, eos) = (named("bos")?, named("eos")?);
    let adds = |name: &str, otherwise: bool| {
        let said = file.flag(&format!("tokenizer.ggml.add_{name}_token"));
        said.map(|said| said.unwrap_or(otherwise))
    };
    let (adds_bos, adds_eos) = (adds("bos", kind.adds_bos)?, adds("eos", false)?);
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config.insert("add_bos_token".into(), (adds_bos && bos.is_some()).into());
    config.insert("add_eos_token".into(), (adds_eos && eos.is_some()).into());
    for (key, token) in [
        ("bos_token", bos),
        ("eos_token", eos),
        ("unk_token", named("unknown")?),
        ("pad_token", named("padding")?),
    ] {
        if let Some((token, _)) = token {
            config.insert(key.into(), token.into());
        }
    }
    if let Some(template) = file.text("tokenizer.chat_template")? {
        config.insert("chat_template".into(), template.into());
    }
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(file, &tokens, architecture)?,
        "normalizer": kind.normalizer,
        "pre_tokenizer": kind.pre_tokenizer,
        "post_processor": around(bos.filter(|_| adds_bos), eos.filter(|_| adds_eos)),
        "decoder": kind.decoder,
        "model": kind.model,
    });
    Ok(Some(Files {
        tokenizer,
        config: Value::Object(config),
    }))
}

/// Byte-level BPE.
fn byte_level(file: &Gguf, tokens: &[&str], split: Split) -> Result<Kind> {
    let merges = file.texts(MERGES)?.ok_or_else(|| file.missing(MERGES))?;
    let merges = pairs(file, merges)?;
    Ok(Kind {
        normalizer: Value::Null,
        pre_tokenizer: split.pre_tokenizer,
        decoder: json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        }),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": split.ignores_merges,
            "vocab": vocabulary(tokens), "merges": merges,
        }),
        adds_bos: split.adds_bos,
    })
}

/// SentencePiece's BPE, as in transformers: merges ordered by scores, bytes for unknown characters.
fn sentence_pieces(file: &Gguf, tokens: &[&str], architecture: &str) -> Result<Kind> {
    let is_gemma = architecture.starts_with("gemma");
    let spelled: Vec<String> = (tokens.iter())
        .map(|token| {
            if is_run(token, architecture) {
                "▁".repeat(token.len())
            } else {
                (*token).to_string()
            }
        })
        .collect();
    let spelled: Vec<&str> = spelled.iter().map(String::as_str).collect();
    let merges = match file.texts(MERGES)? {
        Some(merges) => pairs(file, merges)?,
        None if is_gemma => pieces::merges(file, &spelled, None)?,
        None => {
            let key = "tokenizer.ggml.scores";
            let scores = file.numbers(key)?.ok_or_else(|| file.missing(key))?;
            pieces::merges(file, &spelled, Some(scores))?
        }
    };
    let puts_space = file.flag("tokenizer.ggml.add_space_prefix")?;
    let puts_space = puts_space.unwrap_or(true) && !is_gemma;
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let (normalizer, pre_tokenizer) = match architecture {
        _ if is_gemma => (
            replace,
            json!({
                "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                "invert": false,
            }),
        ),
        "phi3" if puts_space => (
            json!({
                "type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace],
            }),
            Value::Null,
        ),
        _ => (
            Value::Null,
            json!({
                "type": "Metaspace", "replacement": "▁", "split": false,
                "prepend_scheme": if puts_space { "first" } else { "never" },
            }),
        ),
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if puts_space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = is_gemma && spelled.contains(&"<unk>");
    Ok(Kind {
        normalizer,
        pre_tokenizer,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": unknown.then_some("<unk>"),
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(&spelled), "merges": merges,
        }),
        adds_bos: true,
    })
}

fn vocabulary(tokens: &[&str]) -> Value {
    let ids = tokens.iter().enumerate();
    Value::Object(
        ids.map(|(id, token)| (token.to_string(), json!(id)))
            .collect(),
    )
}

/// Merges as the file writes them: two tokens separated by a space.
fn pairs(file: &Gguf, merges: Vec<&str>) -> Result<Vec<Value>> {
    let pair = |merge: &str| {
        // The first token may itself be a space.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let (at, _) = at.filter(|(at, _)| at + 1 < merge.len())?;
        Some(json!([merge[..at], merge[at + 1..]]))
    };
    let pair = |(index, merge)| {
        pair(merge).ok_or_else(|| {
            file.error(format!(
                "{MERGES} has {merge:?} at place {index}: not a pair"
            ))
        })
    };
    merges.into_iter().enumerate().map(pair).collect()
}

/// Whether a token is one of Gemma's runs of spaces, which files store as spaces and texts contain
/// as SentencePiece's space character.
fn is_run(token: &str, architecture: &str) -> bool {
    let is_gemma = architecture.starts_with("gemma");
    is_gemma && token.starts_with(' ') && token.trim_matches(' ').is_empty()
}

/// The tokens that are never split in a text.
fn added(file: &Gguf, tokens: &[&str], architecture: &str) -> Result<Vec<Value>> {
    let Some(types) = file.numbers(TYPES)? else {
        return Ok(Vec::new());
    };
    if types.len() != tokens.len() {
        return Err(file.error(format!(
            "{TYPES} has {} entries and {TOKENS} {}",
            types.len(),
            tokens.len()
        )));
    }
    let all = tokens.iter().zip(types).enumerate();
    let stays = |token: &str, of: f64| {
        let stays = of == CONTROL || of == USER_DEFINED;
        stays && !token.is_empty() && !is_run(token, architecture)
    };
    let whole = all.filter(|(_, (token, of))| stays(token, *of));
    let entry = |(id, (token, of)): (usize, (&&str, f64))| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": of == CONTROL,
        })
    };
    Ok(whole.map(entry).collect())
}

/// Puts special tokens around a text.
fn around(bos: Option<(&str, u64)>, eos: Option<(&str, u64)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let piece = |token: Option<(&str, u64)>| {
        token.map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": 0}}))
    };
    let text = |id: &str, of: u64| json!({"Sequence": {"id": id, "type_id": of}});
    let single = piece(bos)
        .into_iter()
        .chain([text("A", 0)])
        .chain(piece(eos));
    let tokens = bos.iter().chain(&eos).map(|(token, id)| {
        let entry = json!({"id": token, "ids": [id], "tokens": [token]});
        (token.to_string(), entry)
    });
    json!({
        "type": "TemplateProcessing",
        "single": single.collect::<Vec<_>>(),
        "pair": [text("A", 0), text("B", 1)],
        "special_tokens": Value::Object(tokens.collect()),
    })
}
