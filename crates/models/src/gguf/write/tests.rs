use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::gguf::{Gguf, tokenizer};
use crate::hub::ModelFiles;

fn fixtures() -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/gguf/tokenizers"
    ))
    .into()
}

/// A file with keys and no tensors.
fn write(path: &Path, keys: &[(String, KeyValue)]) {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (name, value) in keys {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        value.write(&mut bytes);
    }
    fs::write(path, bytes).unwrap();
}

/// A folder made from a file that Python describes, and the changes to its files.
fn folder(name: &str, change: impl Fn(&str, &mut Value)) -> (tempfile::TempDir, ModelFiles) {
    let made = ModelFiles::gguf(fixtures().join(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(made.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&name, &mut value);
        fs::write(dir.path().join(&name), value.to_string()).unwrap();
    }
    let files = ModelFiles::folder(dir.path());
    (dir, files)
}

/// Every token has a row in the model.
fn fit(name: &str, value: &mut Value, source: &Gguf) {
    if name == "config.json" {
        let tokens = source.texts("tokenizer.ggml.tokens").unwrap().unwrap();
        value["vocab_size"] = tokens.len().into();
    }
    if let Some(added) = value["added_tokens"].as_array_mut()
        && source.text("general.architecture").unwrap() == Some("gemma2")
    {
        // Gemma's own `tokenizer.json` lists its runs of spaces there, which ours does not need.
        let run = |id: usize| serde_json::json!({"id": id, "content": "▁".repeat(id - 2)});
        added.extend((4..7).map(run));
    }
}

#[test]
fn what_is_written_is_read_as_the_file_of_the_reference() {
    let mut count = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let source = Gguf::open(fixtures().join(&name)).unwrap();
        let (dir, files) = folder(&name, |file, value| fit(file, value, &source));
        let path = dir.path().join("written.gguf");
        write(&path, &tokenizer_keys(&files, None, None).unwrap());
        let found = Gguf::open(&path).unwrap();
        let architecture = source.text("general.architecture").unwrap().unwrap();
        let read = |file: &Gguf| tokenizer::tokenizer(file, architecture).unwrap().unwrap();
        let (expected, read) = (read(&source), read(&found));
        for (part, expected) in expected.tokenizer.as_object().unwrap() {
            assert!(read.tokenizer[part] == *expected, "{name}: {part}");
        }
        assert_eq!(read.config, expected.config, "{name}");
        for key in ["model", "pre"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(
                found.text(&key).unwrap(),
                source.text(&key).unwrap(),
                "{name}"
            );
        }
        let types = |file: &Gguf| file.numbers("tokenizer.ggml.token_type").unwrap();
        assert!(types(&found) == types(&source), "{name}");
        // For a GGUF file, the keys are that file's.
        let same = ModelFiles::gguf(fixtures().join(&name)).unwrap();
        write(&path, &tokenizer_keys(&same, None, None).unwrap());
        let copied = Gguf::open(&path).unwrap().copied("tokenizer.");
        assert!(copied == source.copied("tokenizer."), "{name}");
        count += 1;
    }
    assert_eq!(count, 9);
}

#[test]
fn special_tokens_templates_and_sampling_have_their_keys() {
    let (dir, files) = folder("gpt2-qwen2.gguf", |name, value| match name {
        "config.json" => {
            value["vocab_size"] = 1000.into();
            value["pad_token_id"] = 7.into();
        }
        "generation_config.json" => {
            *value = serde_json::json!({
                "eos_token_id": [1, 2, 5], "temperature": 0.6, "top_k": 20, "top_p": 0.95,
                "repetition_penalty": 1.1,
            });
        }
        "tokenizer_config.json" => {
            value["chat_template"] = serde_json::json!([
                {"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"},
            ]);
        }
        _ => {}
    });
    let path = dir.path().join("written.gguf");
    write(&path, &tokenizer_keys(&files, None, None).unwrap());
    let file = Gguf::open(&path).unwrap();
    let id = |name: &str| {
        file.whole(&format!("tokenizer.ggml.{name}_token_id"))
            .unwrap()
    };
    let names = ["bos", "eos", "eot", "eom", "padding", "unknown"];
    let expected = [Some(0), Some(1), Some(2), Some(5), Some(7), None];
    assert_eq!(names.map(id), expected);
    let flag = |name: &str| file.flag(&format!("tokenizer.ggml.{name}")).unwrap();
    assert_eq!(
        (flag("add_bos_token"), flag("add_eos_token")),
        (Some(false), Some(false))
    );
    assert_eq!(file.text("tokenizer.chat_template").unwrap(), Some("a"));
    assert_eq!(
        file.text("tokenizer.chat_template.tool_use").unwrap(),
        Some("b")
    );
    assert_eq!(
        file.texts("tokenizer.chat_templates").unwrap(),
        Some(vec!["tool_use"])
    );
    let said = |key: &str| file.number(&format!("general.sampling.{key}")).unwrap();
    let expected = [Some(0.6), Some(20.0), Some(0.95), Some(1.1), None];
    assert_eq!(
        ["temp", "top_k", "top_p", "penalty_repeat", "min_p"].map(said),
        expected
    );
    let tokens = file.texts("tokenizer.ggml.tokens").unwrap().unwrap();
    let types = file.numbers("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(
        (tokens.len(), tokens[999], types[999]),
        (1000, "[PAD999]", 5.0)
    );
}

#[test]
fn ids_beyond_the_tokens_have_no_keys() {
    let (dir, files) = folder("gpt2-qwen2.gguf", |name, value| match name {
        "config.json" => {
            value["vocab_size"] = 1000.into();
            for key in ["bos_token_id", "eos_token_id"] {
                value[key] = 50256.into();
            }
            value["pad_token_id"] = 1000.into();
        }
        "generation_config.json" => {
            *value = serde_json::json!({"eos_token_id": [50256, 2], "top_k": -1});
        }
        "tokenizer_config.json" => *value = serde_json::json!({}),
        _ => {}
    });
    let path = dir.path().join("written.gguf");
    write(&path, &tokenizer_keys(&files, None, None).unwrap());
    let file = Gguf::open(&path).unwrap();
    let mut ids = file.copied("tokenizer.ggml.");
    ids.retain(|(key, _)| key.ends_with("_token_id"));
    let ids: Vec<&str> = ids.iter().map(|(key, _)| key.as_str()).collect();
    assert!(ids.contains(&"tokenizer.ggml.eot_token_id"), "{ids:?}");
    for name in ["bos", "padding", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        assert!(!ids.contains(&key.as_str()), "{key}");
    }
    assert_eq!(file.whole("tokenizer.ggml.eot_token_id").unwrap(), Some(2));
    assert!(file.copied("general.sampling.").is_empty());
}

#[test]
fn a_tokenizer_that_llama_cpp_has_none_for_is_named() {
    let error = |change: fn(&mut Value)| {
        let (_dir, files) = folder("gpt2-qwen2.gguf", |name, value| {
            if name == "tokenizer.json" {
                change(value);
            }
        });
        tokenizer_keys(&files, None, None).unwrap_err().to_string()
    };
    let unigram = error(|json| json["model"]["type"] = "Unigram".into());
    assert!(
        unigram.contains("is of the model Unigram: only BPE"),
        "{unigram}"
    );
    let rule = error(|json| json["pre_tokenizer"] = serde_json::json!({"type": "Whitespace"}));
    assert!(
        rule.contains("pre_tokenizer = {\"type\":\"Whitespace\"}: llama.cpp has no rule"),
        "{rule}"
    );
    let merge = error(|json| json["model"]["merges"] = serde_json::json!(["ab"]));
    assert!(
        merge.contains("model.merges[0] = \"ab\": not a pair"),
        "{merge}"
    );
}

#[test]
fn the_name_is_the_one_of_the_family() {
    let of = |model_type: &str| {
        let (_dir, files) = folder("gpt2-smollm.gguf", |name, value| {
            if name == "config.json" {
                value["model_type"] = model_type.into();
            }
        });
        let keys = tokenizer_keys(&files, None, None).unwrap();
        let pre = keys
            .into_iter()
            .find(|(key, _)| key == "tokenizer.ggml.pre");
        pre.unwrap().1
    };
    for (family, name) in [
        ("llama", "smollm"),
        ("starcoder2", "starcoder"),
        ("granite", "refact"),
        ("cohere2", "command-r"),
    ] {
        assert_eq!(of(family), KeyValue::Text(name.into()));
    }
}
