//! `Modelfile`: Ollama's description of a GGUF file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn_peft_data::{DataError, Tokenizer, TokenizerProblem};
use burn_peft_files::{atomic, read_text};
use burn_peft_models::hub::ModelFiles;
use serde_json::{Map, Value};

use crate::output::say;

mod formats;
mod go;
mod known;
#[cfg(test)]
mod tests;

use known::{Known, Tokens, recognise};

/// Its name, which `ollama create` looks for.
const NAME: &str = "Modelfile";

/// Writes a `Modelfile` beside a file, or says why not. An existing one is kept unless `force` is
/// set.
///
/// `from` is the model: the file itself or, if the file is an adapter, its base.
pub fn write(
    file: &Path,
    from: &Path,
    files: &ModelFiles,
    tokenizer: Option<&Tokenizer>,
    force: bool,
) -> Result<()> {
    let path = beside(file);
    let text = match text(file, from, files, tokenizer)? {
        Ok(text) => text,
        Err(reason) => {
            return say(format!(
                "no {NAME} for Ollama: {reason}; one without TEMPLATE leaves it to \
                 Ollama"
            ));
        }
    };
    if path.exists() && !force {
        return match fs::read_to_string(&path) {
            Ok(there) if there == text => Ok(()),
            _ => say(format!(
                "{} already exists and is kept (--force replaces it)",
                path.display()
            )),
        };
    }
    atomic::write(&path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    say(format!("{} (ollama create NAME -f {0})", path.display()))
}

fn beside(file: &Path) -> PathBuf {
    file.with_file_name(NAME)
}

/// The text of the file, or why there is none.
fn text(
    file: &Path,
    from: &Path,
    files: &ModelFiles,
    tokenizer: Option<&Tokenizer>,
) -> Result<std::result::Result<String, String>> {
    let mut lines = Vec::new();
    let name = |path: &Path| {
        format!(
            "./{}",
            path.file_name().unwrap_or_default().to_string_lossy()
        )
    };
    if from == file {
        lines.push(format!("FROM {}", name(file)));
    } else {
        let from = std::path::absolute(from)?;
        lines.push(format!("FROM {}", from.display()));
        lines.push(format!("ADAPTER {}", name(file)));
    }
    let mut stops: Vec<String> = Vec::new();
    match tokenizer.map(known_of) {
        None | Some(Ok(None)) => lines.push("TEMPLATE \"\"\"{{ .Prompt }}\"\"\"".into()),
        Some(Err(reason)) => return Ok(Err(format!("the chat template {reason}"))),
        Some(Ok(Some(known))) => {
            let texts = [
                ("TEMPLATE", Some(known.go())),
                ("SYSTEM", known.default_system.clone()),
            ];
            for (key, text) in texts {
                let Some(text) = text else { continue };
                if let Err(reason) = quoted(&mut lines, key, &text) {
                    return Ok(Err(reason));
                }
            }
            stops.extend(known.format.stops.iter().map(|stop| stop.to_string()));
        }
    }
    let eos = tokenizer.and_then(|tokenizer| tokenizer.id_to_token(tokenizer.eos_id()?));
    stops.extend(eos);
    let mut said: Vec<&String> = Vec::new();
    for stop in &stops {
        if said.contains(&stop) {
            continue;
        }
        said.push(stop);
        // Ollama takes the text between the quotes literally.
        let line = Value::from(stop.as_str()).to_string();
        if line[1..line.len() - 1] != **stop {
            return Ok(Err(format!("no such file can hold the stop text {line}")));
        }
        lines.push(format!("PARAMETER stop {line}"));
    }
    lines.extend(sampling(files)?);
    Ok(Ok(lines.join("\n") + "\n"))
}

/// Appends a line with a text between triple quotes, which must not contain them.
fn quoted(lines: &mut Vec<String>, key: &str, text: &str) -> std::result::Result<(), String> {
    const QUOTES: &str = "\"\"\"";
    if text.contains(QUOTES) || text.ends_with('"') {
        return Err(format!(
            "no such file can hold a {key} that has {QUOTES} in it or ends with a quote"
        ));
    }
    lines.push(format!("{key} {QUOTES}{text}{QUOTES}"));
    Ok(())
}

/// The format of a tokenizer's chat template; `None` if it has no template.
fn known_of(tokenizer: &Tokenizer) -> std::result::Result<Option<Known>, String> {
    let plain = [serde_json::json!({"role": "user", "content": "a"})];
    if let Err(DataError::Tokenizer {
        problem: TokenizerProblem::NoTemplate,
        ..
    }) = tokenizer.apply_chat_template(&plain, true)
    {
        return Ok(None);
    }
    let token = |id: Option<u32>| {
        id.and_then(|id| tokenizer.id_to_token(id))
            .unwrap_or_default()
    };
    let ids = |text: &str, open: bool| {
        let ids = if open {
            tokenizer.encode_prompt(text)
        } else {
            tokenizer.encode_continuation(text)
        };
        ids.map_err(|error| error.to_string())
    };
    let (with, without) = (ids("a", true)?, ids("a", false)?);
    let added = with.strip_suffix(without.as_slice()).unwrap_or_default();
    let added = token(added.first().copied());
    let eos = token(tokenizer.eos_id());
    let render = |messages: &[Value]| tokenizer.apply_chat_template(messages, true).ok();
    let tokens = Tokens {
        added: &added,
        bos: &added,
        eos: &eos,
    };
    let source = tokenizer.chat_template_source().unwrap_or_default();
    recognise(source, &render, tokens).map(Some)
}

/// The authors' recommended sampling.
fn sampling(files: &ModelFiles) -> Result<Vec<String>> {
    let Some(path) = files.find("generation_config.json")? else {
        return Ok(Vec::new());
    };
    let said: Map<String, Value> = serde_json::from_str(&read_text(&path)?)
        .with_context(|| format!("{} is not a JSON object", path.display()))?;
    let mut lines = Vec::new();
    let is_greedy = said.get("do_sample") == Some(&false.into());
    for (key, name) in [
        ("temperature", "temperature"),
        ("top_k", "top_k"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("repetition_penalty", "repeat_penalty"),
    ] {
        let value = match said.get(key) {
            _ if is_greedy && key == "temperature" => Some(&Value::Null),
            value => value.filter(|value| value.is_number()),
        };
        match value {
            Some(Value::Null) => lines.push("PARAMETER temperature 0".into()),
            Some(value) => lines.push(format!("PARAMETER {name} {value}")),
            None => {}
        }
    }
    Ok(lines)
}
