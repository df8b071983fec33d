//! The chats that the repository ships, and the training files that use them.

use std::collections::HashSet;
use std::fs;

use burn_peft::parameters::thousands;
use serde_json::Value;

use crate::common::{Lab, repository, values};

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn rows(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository(&format!("assets/chats/{name}.jsonl"))).unwrap();
    let rows = values(&text).into_iter();
    rows.collect()
}

/// What `role` says in a row, in order.
fn said<'a>(row: &'a Value, role: &str) -> Vec<&'a str> {
    let messages = row["messages"].as_array().unwrap().iter();
    let said = messages.filter(|message| message["role"] == role);
    said.map(|message| message["content"].as_str().unwrap())
        .collect()
}

/// The questions that are counted afterwards cannot be answered by heart: none is asked in
/// training, even in another case or punctuation. Every expected answer is one that training gives.
#[test]
fn held_out_questions_are_asked_in_other_words() {
    let plain = |text: &str| text.to_lowercase().replace([',', '.', '?', '!'], "");
    let train = rows("train");
    let asked: HashSet<String> = (train.iter())
        .flat_map(|row| said(row, "user"))
        .map(plain)
        .collect();
    let answers: HashSet<&str> = (train.iter())
        .flat_map(|row| said(row, "assistant"))
        .collect();
    for (name, count) in [("held-out", 69), ("unseen", 65), ("general", 10)] {
        let rows = rows(name);
        assert_eq!(rows.len(), count, "{name}");
        for row in &rows {
            let (ask, answer) = (said(row, "user")[0], said(row, "assistant")[0]);
            assert!(!asked.contains(&plain(ask)), "{ask}");
            let contains = match &row["contains"] {
                Value::Array(list) => list.iter().collect(),
                text => vec![text],
            };
            let mut contains = contains.into_iter().map(|text| text.as_str().unwrap());
            let right = contains.any(|text| answer.contains(text));
            assert!(right, "{row}");
            assert_eq!(answers.contains(answer), name != "general", "{answer}");
        }
    }
}

/// Every row of the files that the shipped configurations name can be read, through a chat template
/// if it is a chat, and none is cut or dropped.
#[test]
fn the_data_of_the_shipped_configurations_loads() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tokenizer")).unwrap();
    let tokenizer = fs::read(repository("assets/tiny-gpt2/tokenizer.json")).unwrap();
    lab.write("tokenizer/tokenizer.json", tokenizer);
    lab.write("tokenizer/chat_template.jinja", CHATML);
    let mut files = HashSet::new();
    for entry in fs::read_dir(repository("configs")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let config: toml::Value = toml::from_str(&text).unwrap();
        let named = ["train", "validation"].map(|key| config["data"].get(key)?.as_str());
        let named = named.into_iter().flatten();
        // The other files are the user's own, on the Hub, or not made yet.
        let here = named.filter(|name| name.starts_with("assets/") || name.starts_with("data/"));
        files.extend(here.map(repository));
    }
    files.insert(repository("assets/chats/general.jsonl"));
    assert!(files.len() >= 11, "{files:?}");
    for file in files {
        let name = file.to_str().unwrap();
        let count = thousands(fs::read_to_string(&file).unwrap().lines().count());
        let is_search = name.contains("assets/search");
        let is_pairs = is_search || name.contains("preferences");
        let mut args = vec!["data", name, "--tokenizer", "tokenizer"];
        if is_search {
            args.extend(["--objective", "embed"]);
        }
        let out = lab.ok(&args);
        let thing = if is_pairs { "pairs" } else { "examples" };
        let counted = format!("{count} {thing}, ");
        assert!(out.contains(&counted), "{out}");
        assert!(
            !out.contains("rows dropped") && !out.contains("rows cut"),
            "{out}"
        );
        assert!(fs::metadata(&file).unwrap().len() < 300_000, "{name}");
    }
}
