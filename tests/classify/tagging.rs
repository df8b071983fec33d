//! A tagger from its rows to its entities.

use serde_json::json;

use super::asking::predict;
use crate::common::{Lab, adapted};

#[test]
fn words_are_tagged_and_entities_found() {
    let lab = Lab::new();
    let rows = [
        (["the", "cat", "sat"], ["O", "B-PET", "O"]),
        (["a", "dog", "sat"], ["O", "B-PET", "O"]),
        (["the", "mat", "sat"], ["O", "O", "O"]),
    ];
    let row = |(tokens, ner_tags): &([&str; 3], [&str; 3])| {
        format!("{}\n", json!({"tokens": tokens, "ner_tags": ner_tags}))
    };
    lab.write("rows.jsonl", rows.iter().map(row).collect::<String>());
    let toml = "model = \"model\"\n[data]\ntrain = \"rows.jsonl\"\nvalidation = \"rows.jsonl\"\n[peft]\n\
                peft_type = \"LORA\"\nr = 4\ntarget_modules = \"all-linear\"\n[training]\n\
                objective = \"tag\"\noutput_dir = \"out\"\nmax_steps = 60\nlearning_rate = 2e-2\n\
                metric_for_best_model = \"f1\"\n";
    lab.write("train.toml", toml);
    lab.ok(&[
        "data",
        "rows.jsonl",
        "--objective",
        "tag",
        "--model",
        "model",
    ]);
    let said = lab.ok(&["train", "train.toml"]);
    assert!(said.contains("f1 1.0000"), "{said}");
    let config = lab.json("out/adapter_config.json");
    assert_eq!(config["task_type"], "TOKEN_CLS");
    assert_eq!(config["id2label"], json!({"0": "B-PET", "1": "O"}));
    let predict = |data: &str| predict(&lab, &["--data", data]);
    let entity = |start, end| json!([{"type": "PET", "start": start, "end": end}]);
    let found = predict("rows.jsonl");
    assert_eq!(found[0]["tags"], json!(["O", "B-PET", "O"]));
    assert_eq!(found[1]["entities"], entity(1, 2));
    assert_eq!(found[2]["entities"], json!([]));
    lab.write("texts.jsonl", "{\"text\": \"the cat sat\"}\n");
    assert_eq!(predict("texts.jsonl")[0]["entities"], entity(4, 7));
    let eval = adapted("eval", &["--data", "rows.jsonl", "--json"]);
    assert_eq!(lab.ok_json(&eval)["f1"], 1.0);
    lab.write(
        "rows.jsonl",
        "{\"tokens\": [\"a\", \"cat\"], \"ner_tags\": [\"O\"]}\n",
    );
    let again = ["train", "train.toml", "--force"];
    lab.fails(
        &again,
        &["rows.jsonl line 1 has 2 words, and not as many tags in `ner_tags`"],
    );
}
