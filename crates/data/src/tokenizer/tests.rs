use super::*;
use crate::tokenizer::bpe::tiny;
use serde_json::json;
use std::fs;

/// GPT-2's own files, which are too large to ship.
fn real_gpt2() -> Option<Tokenizer> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/gpt2-tokenizer"
    );
    if !Path::new(folder).is_dir() {
        eprintln!("skipped: {folder} is absent");
        return None;
    }
    Some(Tokenizer::load(folder).unwrap())
}

#[test]
fn gpt2_gives_the_published_ids() {
    let Some(tokenizer) = real_gpt2() else { return };
    assert_eq!(
        (tokenizer.vocab_size(), tokenizer.eos_id()),
        (50257, Some(50256))
    );
    let hello = [15496, 995];
    assert_eq!(tokenizer.encode("Hello world").unwrap(), hello);
    let fox = [464, 2068, 7586, 21831];
    assert_eq!(tokenizer.encode("The quick brown fox").unwrap(), fox);
    assert_eq!(tokenizer.encode(END_OF_TEXT).unwrap(), [50256]);
    assert_eq!(
        tokenizer.decode(&[15496, 995, 50256]).unwrap(),
        "Hello world<|endoftext|>"
    );
    for text in [
        "",
        "  two  spaces\n\n\ttab",
        "naïve café, 日本語 🦀 don't",
        "\u{0}\u{7f}",
    ] {
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(),
            text
        );
    }
}

#[test]
fn a_saved_tokenizer_loads_again_from_folder_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    tiny().save(&file).unwrap();
    for path in [dir.path(), &file] {
        let loaded = Tokenizer::load(path).unwrap();
        assert_eq!(
            loaded.encode("the cat 日").unwrap(),
            tiny().encode("the cat 日").unwrap()
        );
        assert_eq!(loaded.eos_id(), tiny().eos_id());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = tiny()
        .save(dir.path().join("missing/tokenizer.json"))
        .unwrap_err();
    assert!(
        error.to_string().contains("missing/tokenizer.json: "),
        "{error}"
    );
}

#[test]
fn vocab_and_merges_are_gpt2s_pair() {
    let dir = tempfile::tempdir().unwrap();
    let vocab = r#"{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "<|endoftext|>": 4}"#;
    fs::write(dir.path().join("vocab.json"), vocab).unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("has neither tokenizer.json nor vocab.json with merges.txt nor vocab.txt")
    );

    fs::write(dir.path().join("merges.txt"), "#version: 0.2\na b\n").unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("vocab.json")] {
        let tokenizer = Tokenizer::load(path).unwrap();
        assert_eq!(
            tokenizer.encode("ab ba<|endoftext|>").unwrap(),
            [3, 2, 1, 0, 4]
        );
        assert_eq!(tokenizer.eos_id(), Some(4));
    }
    // A merge whose result is longer than every token: the `tokenizers` crate panics on it.
    let merges = dir.path().join("merges.txt");
    fs::write(&merges, "<|endoftext|> <|endoftext|>\n").unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("vocab.json with merges.txt is not a byte-level BPE"),
        "{error}"
    );
}

#[test]
fn the_eos_token_is_what_the_files_say() {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path().join("tokenizer.json")).unwrap();
    let eos = || Tokenizer::load(dir.path()).map(|tokenizer| tokenizer.eos_id());
    fs::write(
        dir.path().join("config.json"),
        r#"{"eos_token_id": [3, 4]}"#,
    )
    .unwrap();
    assert_eq!(eos().unwrap(), Some(3));
    fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 50256}"#).unwrap();
    assert_eq!(eos().unwrap(), tiny().eos_id());
    let config = dir.path().join("tokenizer_config.json");
    fs::write(&config, r#"{"eos_token": {"content": "t"}}"#).unwrap();
    assert_eq!(eos().unwrap(), tiny().token_to_id("t"));
    // transformers adds one that is not a token yet, after the others.
    fs::write(&config, r#"{"eos_token": "</s>"}"#).unwrap();
    assert_eq!(eos().unwrap(), Some(tiny().vocab_size() as u32));
}

#[test]
fn missing_and_truncated_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    let error = Tokenizer::load(&missing).unwrap_err().to_string();
    assert!(error.contains("nowhere: there is no such"), "{error}");
    let file = dir.path().join("tokenizer.json");
    fs::write(&file, "{\"version\": \"1.0\", \"mod").unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.json is not a tokenizer: EOF"),
        "{error}"
    );
}

/// The ids of transformers' own tokenizer for folders of many kinds, as `make.py` wrote them there.
#[test]
fn every_folder_gives_transformers_ids() {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/tokenizers"
    );
    let fixture = Path::new(fixture);
    let cases = fs::read(fixture.join("cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("config.json", br#"{"model_type": "gpt2"}"#);
        let base: &[&str] = if case["form"] == "json" {
            &["tokenizer.json"]
        } else {
            &["vocab.json", "merges.txt"]
        };
        for name in base {
            write(name, &fs::read(fixture.join(name)).unwrap());
        }
        for (name, content) in case["files"].as_object().unwrap() {
            write(name, content.to_string().as_bytes());
        }
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        for (text, ids) in case["ids"].as_object().unwrap() {
            let found = tokenizer.encode(text).unwrap();
            assert_eq!(Value::from(found), *ids, "{}: {text:?}", case["name"]);
        }
        if let Some(eos) = case["eos"].as_u64() {
            assert_eq!(
                tokenizer.eos_id().map(u64::from),
                Some(eos),
                "{}",
                case["name"]
            );
        }
    }
}

/// A folder of files, and what they contradict each other in.
fn disagreements(files: &[(&str, Value)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path().join("tokenizer.json")).unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content.to_string()).unwrap();
    }
    Tokenizer::read(dir.path()).unwrap().1
}

#[test]
fn files_that_disagree_are_named() {
    let config = |fields: Value| ("tokenizer_config.json", fields);
    let gpt2 = ("config.json", json!({"model_type": "gpt2"}));
    let agreed = json!({
        "eos_token": END_OF_TEXT, "bos_token": END_OF_TEXT, "add_prefix_space": false,
        "add_bos_token": false, "tokenizer_class": "GPT2Tokenizer",
    });
    let map = |token: &str| ("special_tokens_map.json", json!({"eos_token": token}));
    assert!(disagreements(&[config(agreed.clone()), map(END_OF_TEXT), gpt2.clone()]).is_empty());
    assert!(disagreements(&[]).is_empty());
    let decoder = json!({"0": {"content": END_OF_TEXT, "special": true}});
    let all = json!({"eos_token": END_OF_TEXT, "added_tokens_decoder": decoder});
    for (files, named) in [
        (
            vec![config(agreed.clone()), map("t")],
            "eos_token is \"<|endoftext|>\" in tokenizer_config.json and \"t\" in \
             special_tokens_map.json: \"t\" of special_tokens_map.json counts",
        ),
        (
            vec![config(all.clone()), map("t")],
            "\"<|endoftext|>\" of tokenizer_config.json counts",
        ),
        (
            vec![config(all), ("added_tokens.json", json!({"<new>": 260}))],
            "added_tokens.json has the token \"<new>\"",
        ),
        (
            vec![("added_tokens.json", json!({"<new>": 300}))],
            "\"<new>\" has the id 300 in its file and gets 260",
        ),
        (
            vec![config(json!({"pad_token": "[PAD]"}))],
            "pad_token is \"[PAD]\", which is not in the vocabulary",
        ),
        (
            vec![config(json!({"bos_token": "t", "add_bos_token": true}))],
            "add_bos_token is true in tokenizer_config.json and false in tokenizer.json: false",
        ),
        (
            vec![config(json!({"add_prefix_space": true}))],
            "add_prefix_space is true in tokenizer_config.json and false in tokenizer.json: false",
        ),
        (
            vec![config(json!({"add_prefix_space": true})), gpt2],
            "add_prefix_space is true in tokenizer_config.json and false in tokenizer.json: true",
        ),
    ] {
        let found = disagreements(&files);
        assert!(
            matches!(&found[..], [one] if one.contains(named)),
            "{named}: {found:?}"
        );
    }
}

#[test]
fn settings_that_cannot_be_honoured_are_errors_with_their_key() {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path().join("tokenizer.json")).unwrap();
    let config = dir.path().join("tokenizer_config.json");
    for (fields, named) in [
        (
            json!({"add_prefix_space": 1}),
            "add_prefix_space of tokenizer_config.json is 1",
        ),
        (
            json!({"eos_token": 5}),
            "eos_token of tokenizer_config.json is 5",
        ),
        (
            json!({"added_tokens_decoder": {"a": {}}}),
            "has the key \"a\"",
        ),
        (
            json!({"added_tokens_decoder": {"300": "x"}}),
            "300 is \"x\"",
        ),
        (json!([]), "tokenizer_config.json is not a JSON object"),
    ] {
        fs::write(&config, fields.to_string()).unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
    // Another class would split the texts of vocab.json differently.
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("vocab.json"), r#"{"a": 0}"#).unwrap();
    fs::write(dir.path().join("merges.txt"), "#version: 0.2\n").unwrap();
    fs::write(&config, r#"{"tokenizer_class": "RobertaTokenizerFast"}"#).unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer_class is \"RobertaTokenizer\""),
        "{error}"
    );
}

#[test]
fn a_prompt_is_opened_and_not_closed() {
    let dir = tempfile::tempdir().unwrap();
    let around = |opening: &str| {
        let text = tiny().inner.to_string(false).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let (text, more) = (
            json!({"Sequence": {"id": "A", "type_id": 0}}),
            json!({"Sequence": {"id": "B", "type_id": 0}}),
        );
        let end = json!({"id": END_OF_TEXT, "ids": [0], "tokens": [END_OF_TEXT]});
        let mut single = vec![text.clone(), special(END_OF_TEXT)];
        if !opening.is_empty() {
            single.insert(0, special(opening));
        }
        json["post_processor"] = json!({
            "type": "TemplateProcessing", "single": single, "pair": [text, more],
            "special_tokens": {"<|endoftext|>": end},
        });
        let file = dir.path().join("tokenizer.json");
        fs::write(&file, json.to_string()).unwrap();
        Tokenizer::load(file).unwrap()
    };
    let the = tiny().encode("the").unwrap();
    let closed = around("");
    assert_eq!(
        closed.encode("the").unwrap(),
        [the.clone(), vec![0]].concat()
    );
    assert_eq!(closed.encode_prompt("the").unwrap(), the);
    assert!(closed.encode_prompt("").unwrap().is_empty());
    // A special token in the text itself stays.
    let text = format!("the{END_OF_TEXT}");
    assert_eq!(
        closed.encode_prompt(&text).unwrap(),
        [the.clone(), vec![0]].concat()
    );
    let both = around(END_OF_TEXT);
    assert_eq!(both.encode_prompt("the").unwrap(), [vec![0], the].concat());
    assert_eq!(both.encode_prompt("").unwrap(), [0]);
}

#[test]
fn dropout_is_off_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut json: Value = serde_json::from_str(&tiny().inner.to_string(false).unwrap()).unwrap();
    json["model"]["dropout"] = json!(0.9);
    fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    let (tokenizer, told) = Tokenizer::read(dir.path()).unwrap();
    assert!(told[0].contains("dropout is 0.9"), "{told:?}");
    let the = tiny().encode("the the").unwrap();
    assert!((0..50).all(|_| tokenizer.encode("the the").unwrap() == the));
}

#[test]
fn a_class_that_puts_a_space_the_file_does_not_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path().join("tokenizer.json")).unwrap();
    let load = |class: &str| {
        let config = json!({"tokenizer_class": class, "add_prefix_space": true});
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        Tokenizer::load(dir.path())
    };
    for class in ["GPTNeoXTokenizer", "Qwen2Tokenizer", "RobertaTokenizer"] {
        let error = load(&format!("{class}Fast")).unwrap_err().to_string();
        assert!(
            error.contains(&format!("tokenizer_class {class:?}")),
            "{error}"
        );
    }
    // Here transformers, too, keeps the file's.
    assert!(load("PreTrainedTokenizerFast").is_ok());
}

#[test]
fn additional_special_tokens_of_the_configuration_count_alone() {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path().join("tokenizer.json")).unwrap();
    for (file, token) in [("tokenizer_config", "<a>"), ("special_tokens_map", "<b>")] {
        let fields = json!({"additional_special_tokens": [token]});
        fs::write(dir.path().join(format!("{file}.json")), fields.to_string()).unwrap();
    }
    let (tokenizer, told) = Tokenizer::read(dir.path()).unwrap();
    assert!(
        told[0].contains("additional_special_tokens is another list"),
        "{told:?}"
    );
    assert_eq!(tokenizer.token_to_id("<a>"), Some(260));
    assert_eq!(tokenizer.token_to_id("<b>"), None);
}

#[test]
fn an_empty_merges_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("vocab.json"),
        r#"{"a": 0, "b": 1, "ab": 2}"#,
    )
    .unwrap();
    fs::write(dir.path().join("merges.txt"), "\n").unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("merges.txt is empty"), "{error}");
}
