//! Making keys from the files of a tokenizer: the inverse of [`super::super::tokenizer`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn_peft_files::read_text;
use serde_json::{Map, Value, json};

use super::KeyValue;
use super::vocabulary::Vocabulary;
use crate::error::{ModelError, Result};
use crate::hub::ModelFiles;

/// The keys for a model's tokenizer, chat templates and recommended sampling in a GGUF file. The
/// tokenizer is the model's own, or `tokenizer` in its place. If the model is a GGUF file itself,
/// its keys are copied. `None` if there is no tokenizer. `vocab_size` is given if an adapter added
/// rows, so that it differs from `config.json`.
///
/// # Errors
/// If llama.cpp has no equivalent of the tokenizer: a model other than BPE, or a splitting rule
/// without a `tokenizer.ggml.pre`; the error names it. If files cannot be read.
pub fn tokenizer_keys(
    model: &ModelFiles,
    tokenizer: Option<&ModelFiles>,
    vocab_size: Option<usize>,
) -> Result<Vec<(String, KeyValue)>> {
    if let (Some(file), None) = (model.as_gguf(), tokenizer) {
        return Ok(file.tokenizer_keys());
    }
    let Some(mut source) = Source::read(tokenizer.unwrap_or(model), model)? else {
        return Ok(Vec::new());
    };
    if let Some(size) = vocab_size {
        source.model.insert("vocab_size".into(), json!(size));
    }
    let mut keys = Keys(Vec::new());
    keys.sampling(&source.generation);
    let vocabulary = Vocabulary::new(&source)?;
    let count = vocabulary.number_of_tokens();
    vocabulary.write(&mut keys);
    keys.special(&source, count);
    keys.templates(&source.templates);
    Ok(keys.0)
}

/// The contents of the files.
pub(super) struct Source {
    /// The file of the tokenizer.
    pub path: PathBuf,
    /// `tokenizer.json`, or its equivalent.
    pub json: Value,
    /// `tokenizer_config.json`, with settings that only `special_tokens_map.json` has.
    pub config: Map<String, Value>,
    /// The model's `config.json`.
    pub model: Map<String, Value>,
    generation: Map<String, Value>,
    /// The chat templates by name.
    templates: BTreeMap<String, String>,
}

/// The template that is used by default.
const DEFAULT: &str = "default";

impl Source {
    fn read(files: &ModelFiles, model: &ModelFiles) -> Result<Option<Self>> {
        let mut config = object(files, "tokenizer_config.json")?;
        for (key, value) in object(files, "special_tokens_map.json")? {
            config.entry(key).or_insert(value);
        }
        let (path, json) = if let Some(path) = files.find("tokenizer.json")? {
            let json = parse(&path)?;
            (path, json)
        } else if let (Some(vocab), Some(merges)) =
            (files.find("vocab.json")?, files.find("merges.txt")?)
        {
            let json = of_pair(&vocab, &merges, &config)?;
            (vocab, json)
        } else {
            return Ok(None);
        };
        let templates = templates(files, &config)?;
        Ok(Some(Self {
            path,
            json,
            config,
            model: object(model, "config.json")?,
            generation: object(model, "generation_config.json")?,
            templates,
        }))
    }

    pub fn error(&self, reason: impl Into<String>) -> ModelError {
        ModelError::file(&self.path, reason)
    }

    /// The text of a special token, by its name in `tokenizer_config.json`.
    pub fn named(&self, name: &str) -> Option<&str> {
        let token = self.config.get(name)?;
        token.as_str().or_else(|| token["content"].as_str())
    }

    /// The id of a token as the files spell it.
    fn id(&self, token: &str) -> Option<u64> {
        let added = self.json["added_tokens"].as_array().into_iter().flatten();
        let mut added = added.filter(|entry| entry["content"] == token);
        let added = added.find_map(|entry| entry["id"].as_u64());
        added.or_else(|| self.json["model"]["vocab"].get(token)?.as_u64())
    }

    /// The special tokens before and after every text, from `post_processor`.
    fn around(&self) -> (Option<u64>, Option<u64>) {
        let processor = &self.json["post_processor"];
        let several = processor["processors"].as_array();
        let all = several.map_or(std::slice::from_ref(processor), Vec::as_slice);
        let template = all.iter().find(|one| one["type"] == "TemplateProcessing");
        let pieces = template.and_then(|template| template["single"].as_array());
        let id = |piece: Option<&Value>| self.id(piece?["SpecialToken"]["id"].as_str()?);
        let (first, last) = pieces.map_or((None, None), |pieces| (pieces.first(), pieces.last()));
        (id(first), id(last))
    }
}

/// A file that holds an object; empty if there is no such file.
fn object(files: &ModelFiles, name: &str) -> Result<Map<String, Value>> {
    let Some(path) = files.find(name)? else {
        return Ok(Map::new());
    };
    match parse(&path)? {
        Value::Object(object) => Ok(object),
        _ => Err(ModelError::file(path, "is not a JSON object")),
    }
}

fn parse(path: &Path) -> Result<Value> {
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map_err(|error| ModelError::file(path, format!("is not JSON: {error}")))
}

/// The `tokenizer.json` that is equivalent to GPT-2's two files.
fn of_pair(vocab: &Path, merges: &Path, config: &Map<String, Value>) -> Result<Value> {
    let vocab = parse(vocab)?;
    let merges = read_text(merges)?;
    let merges = merges.lines().filter(|line| !line.starts_with("#version"));
    let merges: Vec<&str> = merges.filter(|line| !line.is_empty()).collect();
    let end = "<|endoftext|>";
    let added: Vec<Value> = (vocab.get(end).into_iter())
        .map(|id| json!({"id": id, "content": end, "special": true}))
        .collect();
    let wanted = |key: &str| config.get(key) == Some(&true.into());
    let token = |name: &str| {
        let token = config.get(name).map(|token| match token {
            Value::Object(token) => token.get("content").cloned().unwrap_or_default(),
            token => token.clone(),
        });
        json!({"SpecialToken": {"id": token.unwrap_or(end.into())}})
    };
    let mut pieces = vec![json!({"Sequence": {"id": "A"}})];
    if wanted("add_bos_token") {
        pieces.insert(0, token("bos_token"));
    }
    if wanted("add_eos_token") {
        pieces.push(token("eos_token"));
    }
    Ok(json!({
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": wanted("add_prefix_space")},
        "post_processor": {"type": "TemplateProcessing", "single": pieces},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }))
}

/// The chat templates: those in separate files, else those in `tokenizer_config.json`.
fn templates(files: &ModelFiles, config: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    if let Some(path) = files.find("chat_template.jinja")? {
        found.insert(DEFAULT.to_string(), read_text(&path)?);
        let folder = files.path().join("additional_chat_templates");
        if folder.is_dir() {
            let entries = fs::read_dir(&folder).map_err(ModelError::io(&folder))?;
            for entry in entries {
                let path = entry.map_err(ModelError::io(&folder))?.path();
                if path.extension().is_some_and(|end| end == "jinja") {
                    let name = path.file_stem().unwrap_or_default().to_string_lossy();
                    found.insert(name.into_owned(), read_text(&path)?);
                }
            }
        }
        return Ok(found);
    }
    match config.get("chat_template") {
        Some(Value::String(template)) => {
            found.insert(DEFAULT.to_string(), template.clone());
        }
        Some(Value::Array(named)) => {
            let pair = |entry: &Value| {
                let (name, template) = (entry["name"].as_str()?, entry["template"].as_str()?);
                Some((name.to_string(), template.to_string()))
            };
            found.extend(named.iter().filter_map(pair));
        }
        _ => {}
    }
    Ok(found)
}

/// The keys to write.
pub(super) struct Keys(Vec<(String, KeyValue)>);

impl Keys {
    pub fn add(&mut self, key: impl Into<String>, value: KeyValue) {
        self.0.push((key.into(), value));
    }

    /// The authors' recommended sampling.
    fn sampling(&mut self, generation: &Map<String, Value>) {
        let number = |key: &str| Some(generation.get(key)?.as_f64()? as f32);
        let is_greedy = generation.get("do_sample") == Some(&false.into());
        let temperature = if is_greedy {
            Some(0.0)
        } else {
            number("temperature")
        };
        // A negative value means nothing: some write -1 for what is not set.
        let top_k = generation.get("top_k").and_then(Value::as_u64);
        if let Some(top_k) = top_k {
            let top_k = KeyValue::I32(i32::try_from(top_k).unwrap_or(i32::MAX));
            self.add("general.sampling.top_k", top_k);
        }
        for (key, value) in [
            ("temp", temperature),
            ("top_p", number("top_p")),
            ("min_p", number("min_p")),
            ("penalty_repeat", number("repetition_penalty")),
        ] {
            if let Some(value) = value {
                self.add(format!("general.sampling.{key}"), KeyValue::F32(value));
            }
        }
    }

    /// The special tokens among the `count` that are written, and which of them surround a text.
    fn special(&mut self, source: &Source, count: u64) {
        let is_written = |id: &u64| *id < count;
        let (before, behind) = source.around();
        let (before, behind) = (before.filter(is_written), behind.filter(is_written));
        // The `config.json` of a small model may have ids of the large model that it was made from.
        let of_model = |key: &str| {
            let ids = source.model.get(key)?;
            let id = ids.as_u64().or_else(|| ids.get(0)?.as_u64());
            id.filter(is_written)
        };
        let of = |name: &str| source.id(source.named(name)?).filter(is_written);
        let eos = behind.or_else(|| of("eos_token"));
        let eos = eos.or_else(|| of_model("eos_token_id"));
        let eos = eos.or_else(|| source.id("<|endoftext|>").filter(is_written));
        // Further tokens that end a text are stored where our reader, and llama.cpp, look for them.
        let ends = source.generation.get("eos_token_id");
        let ends = ends.map_or(Vec::new(), |ends| match ends.as_array() {
            Some(several) => several.iter().filter_map(Value::as_u64).collect(),
            None => ends.as_u64().into_iter().collect(),
        });
        let ends = ends.into_iter().filter(is_written);
        let mut further = ends.filter(|end| Some(*end) != eos);
        let (eot, eom) = (further.next(), further.next());
        if let Some(left) = further.next() {
            tracing::warn!(
                "generation_config.json ends a text with more than three tokens: a GGUF file has no \
                 key for the fourth, {left}"
            );
        }
        for (name, id) in [
            (
                "bos",
                before
                    .or_else(|| of("bos_token"))
                    .or_else(|| of_model("bos_token_id")),
            ),
            ("eos", eos),
            ("eot", eot),
            ("eom", eom),
            ("unknown", of("unk_token")),
            (
                "padding",
                of("pad_token").or_else(|| of_model("pad_token_id")),
            ),
        ] {
            if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
                self.add(format!("tokenizer.ggml.{name}_token_id"), KeyValue::U32(id));
            }
        }
        for (name, token) in [("bos", before), ("eos", behind)] {
            let key = format!("tokenizer.ggml.add_{name}_token");
            self.add(key, KeyValue::Flag(token.is_some()));
        }
    }

    fn templates(&mut self, templates: &BTreeMap<String, String>) {
        let key = "tokenizer.chat_template";
        let others = templates.iter().filter(|(name, _)| *name != DEFAULT);
        let names: Vec<String> = others.clone().map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            self.add("tokenizer.chat_templates", KeyValue::Texts(names));
        }
        for (name, template) in others {
            self.add(format!("{key}.{name}"), KeyValue::Text(template.clone()));
        }
        if let Some(template) = templates.get(DEFAULT) {
            self.add(key, KeyValue::Text(template.clone()));
        }
    }
}
