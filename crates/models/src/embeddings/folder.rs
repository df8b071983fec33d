//! The files that sentence-transformers stores beside a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn_peft_files::{atomic, read_text};
use serde_json::{Map, Value, json};

use super::{Embedder, Pooling};
use crate::error::{ModelError, Result};
use crate::hub::ModelFiles;

const MODULES: &str = "modules.json";
const TRANSFORMER: &str = "sentence_bert_config.json";
const PROMPTS: &str = "config_sentence_transformers.json";
const POOLING: &str = "1_Pooling/config.json";
const NORMALIZE: &str = "2_Normalize/config.json";

/// All the files that such a folder has beside a model and its tokenizer.
pub const SENTENCE_FILES: [&str; 5] = [MODULES, POOLING, NORMALIZE, TRANSFORMER, PROMPTS];

/// The settings in a sentence-transformers folder: how hidden states become an embedding, and what
/// is put before texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modules {
    /// How hidden states become a vector.
    pub embedder: Embedder,
    /// The length in tokens that a text is cut to.
    pub max_seq_length: Option<usize>,
    /// Whether texts are lower-cased first.
    pub do_lower_case: bool,
    /// Prompts that can be put before a text, by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt to use if none is named.
    pub default_prompt_name: Option<String>,
}

impl Modules {
    /// Reads the files of a folder, or of a model on the Hub; `None` if it has no `modules.json`.
    ///
    /// # Errors
    /// If a file is malformed, or a module is not supported; the error names it.
    pub fn read(files: &ModelFiles) -> Result<Option<Self>> {
        let Some(path) = files.find(MODULES)? else {
            return Ok(None);
        };
        let bad = |reason: String| ModelError::file(&path, reason);
        let list: Vec<Map<String, Value>> = read_json(&path)?;
        let mut found = Self::default();
        let mut has_pooling = false;
        for module in &list {
            let text = |key: &str| module.get(key).and_then(Value::as_str);
            let kind = text("type").unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if text("path").unwrap_or_default().is_empty() => {}
                "Transformer" => {
                    let below = text("path").unwrap_or_default();
                    return Err(bad(format!(
                        "the model is in {below}: name that folder, with --pooling"
                    )));
                }
                "Pooling" => {
                    let name = format!("{}/config.json", text("path").unwrap_or("1_Pooling"));
                    let config = files.get(&name)?;
                    let pooling = pooling_of(&read_json(&config)?);
                    found.embedder.pooling =
                        pooling.map_err(|reason| ModelError::file(&config, reason))?;
                    has_pooling = true;
                }
                "Normalize" => found.embedder.normalize = true,
                other => {
                    return Err(bad(format!(
                        "the module {other} is not supported: Transformer, Pooling and Normalize are"
                    )));
                }
            }
        }
        if !has_pooling {
            return Err(bad(
                "no module Pooling says how a text becomes one vector".into()
            ));
        }
        if let Some(path) = files.find(TRANSFORMER)? {
            let keys: Map<String, Value> = read_json(&path)?;
            let length = keys.get("max_seq_length").and_then(Value::as_u64);
            found.max_seq_length = length
                .map(|length| length as usize)
                .filter(|&length| length > 0);
            found.do_lower_case = keys.get("do_lower_case") == Some(&Value::Bool(true));
        }
        if let Some(path) = files.find(PROMPTS)? {
            let mut keys: Map<String, Value> = read_json(&path)?;
            let given = |keys: &mut Map<String, Value>, key: &str| {
                keys.remove(key).filter(|value| !value.is_null())
            };
            let wrong = |error: serde_json::Error| ModelError::file(&path, error.to_string());
            if let Some(prompts) = given(&mut keys, "prompts") {
                found.prompts = serde_json::from_value(prompts).map_err(wrong)?;
            }
            if let Some(name) = given(&mut keys, "default_prompt_name") {
                found.default_prompt_name = Some(serde_json::from_value(name).map_err(wrong)?);
            }
        }
        Ok(Some(found))
    }

    /// The prompt with this name, or the default prompt if no name is given.
    ///
    /// # Errors
    /// If no prompt has this name.
    pub fn prompt(&self, name: Option<&str>) -> std::result::Result<&str, String> {
        let Some(name) = name.or(self.default_prompt_name.as_deref()) else {
            return Ok("");
        };
        let found = self.prompts.get(name).map(String::as_str);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
            format!(
                "there is no prompt {name:?}: the model has {}",
                if names.is_empty() {
                    "none".to_string()
                } else {
                    names.join(", ")
                }
            )
        })
    }

    /// Writes the files into a folder, so that sentence-transformers can open it; `d` is the width
    /// of the hidden states. Returns the new files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path, d: usize) -> Result<Vec<PathBuf>> {
        let module = |index: usize, path: &str, kind: &str| {
            json!({
                "idx": index,
                "name": index.to_string(),
                "path": path,
                "type": format!("sentence_transformers.models.{kind}"),
            })
        };
        let mut modules = vec![
            module(0, "", "Transformer"),
            module(1, "1_Pooling", "Pooling"),
        ];
        let mut pooling = Map::new();
        pooling.insert("word_embedding_dimension".into(), d.into());
        for (key, mode) in LEGACY {
            pooling.insert(key.into(), (mode == self.embedder.pooling).into());
        }
        pooling.insert("include_prompt".into(), true.into());
        let mut files = vec![(POOLING, Value::Object(pooling))];
        if self.embedder.normalize {
            modules.push(module(2, "2_Normalize", "Normalize"));
            // In a file, since an empty folder is easily lost.
            files.push((NORMALIZE, json!({})));
        }
        files.push((MODULES, modules.into()));
        files.push((
            TRANSFORMER,
            json!({ "max_seq_length": self.max_seq_length, "do_lower_case": self.do_lower_case }),
        ));
        files.push((
            PROMPTS,
            json!({
                "prompts": self.prompts,
                "default_prompt_name": self.default_prompt_name,
                "similarity_fn_name": "cosine",
            }),
        ));
        let written = files.into_iter().map(|(name, value)| {
            let path = folder.join(name);
            let cannot = |source| ModelError::Io {
                path: path.clone(),
                source,
            };
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(cannot)?;
            }
            atomic::write(&path, format!("{value:#}\n").as_bytes()).map_err(cannot)?;
            Ok(path)
        });
        written.collect()
    }
}

/// The keys of a pooling's `config.json` that each turn on a mode, as all versions read them.
const LEGACY: [(&str, Pooling); 6] = [
    ("pooling_mode_cls_token", Pooling::Cls),
    ("pooling_mode_mean_tokens", Pooling::Mean),
    ("pooling_mode_max_tokens", Pooling::Max),
    (
        "pooling_mode_mean_sqrt_len_tokens",
        Pooling::MeanSqrtLenTokens,
    ),
    ("pooling_mode_weightedmean_tokens", Pooling::WeightedMean),
    ("pooling_mode_lasttoken", Pooling::LastToken),
];

/// The mode that a pooling's `config.json` names, in the new form or the old one.
fn pooling_of(keys: &Map<String, Value>) -> std::result::Result<Pooling, String> {
    if keys.get("include_prompt") == Some(&Value::Bool(false)) {
        return Err(
            "include_prompt = false is not supported: a prompt is pooled with its text".into(),
        );
    }
    let modes = match keys.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode.parse()?],
        Some(Value::Array(modes)) => {
            let mode = |mode: &Value| mode.as_str().unwrap_or_default().parse();
            modes
                .iter()
                .map(mode)
                .collect::<std::result::Result<Vec<Pooling>, String>>()?
        }
        _ => {
            let is_on = |key: &str| keys.get(key) == Some(&Value::Bool(true));
            let on = LEGACY.into_iter().filter(|(key, _)| is_on(key));
            on.map(|(_, mode)| mode).collect()
        }
    };
    match modes[..] {
        [] => Ok(Pooling::Mean),
        [mode] => Ok(mode),
        _ => Err(format!(
            "{} modes of pooling side by side are not supported, one is",
            modes.len()
        )),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        let reason = burn_peft_files::json_problem(&text, &error);
        ModelError::file(path, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = ModelFiles::folder(folder.path());
        assert_eq!(Modules::read(&files).unwrap(), None);
        let modules = Modules {
            embedder: Embedder {
                pooling: Pooling::LastToken,
                normalize: true,
            },
            max_seq_length: Some(128),
            do_lower_case: false,
            prompts: [("query".to_string(), "query: ".to_string())].into(),
            default_prompt_name: None,
        };
        assert_eq!(modules.save(folder.path(), 8).unwrap().len(), 5);
        assert_eq!(Modules::read(&files).unwrap().unwrap(), modules);
        assert_eq!(modules.prompt(None), Ok(""));
        assert_eq!(modules.prompt(Some("query")), Ok("query: "));
        let error = modules.prompt(Some("passage")).unwrap_err();
        assert!(error.ends_with("the model has query"), "{error}");

        let dense = r#"[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#;
        std::fs::write(folder.path().join(MODULES), dense).unwrap();
        let error = Modules::read(&files).unwrap_err().to_string();
        assert!(error.contains("modules.json: the module Dense"), "{error}");
    }

    #[test]
    fn a_mode_is_said_in_new_words_or_old_ones() {
        let of = |text: &str| pooling_of(&serde_json::from_str(text).unwrap());
        assert_eq!(
            of(r#"{"pooling_mode": "weightedmean"}"#),
            Ok(Pooling::WeightedMean)
        );
        assert_eq!(of(r#"{"pooling_mode": ["cls"]}"#), Ok(Pooling::Cls));
        assert_eq!(of(r#"{"pooling_mode_max_tokens": true}"#), Ok(Pooling::Max));
        assert_eq!(of("{}"), Ok(Pooling::Mean));
        assert!(of(r#"{"pooling_mode": ["cls", "max"]}"#).is_err());
        assert!(of(r#"{"include_prompt": false}"#).is_err());
    }
}
