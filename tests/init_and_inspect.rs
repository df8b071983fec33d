//! `peft init` and `peft inspect`.

use crate::common::{Lab, adapted};

#[test]
fn init_depends_on_the_seed_alone() {
    let lab = Lab::new();
    let weights = |seed: &str, dir: &str| {
        lab.ok(&["init", "config.json", "--seed", seed, "--output", dir]);
        lab.read(&format!("{dir}/model.safetensors"))
    };
    assert_eq!(weights("1", "a"), lab.read("model/model.safetensors"));
    assert_ne!(weights("2", "b"), lab.read("model/model.safetensors"));
    assert_eq!(lab.json("a/config.json")["n_embd"], 16);
}

#[test]
fn init_replaces_weights_only_when_told_to() {
    let lab = Lab::new();
    let before = lab.read("model/model.safetensors");
    let init = ["init", "config.json", "--seed", "5", "--output", "model"];
    lab.fails(&init, &["model/model.safetensors", "--force"]);
    assert_eq!(lab.read("model/model.safetensors"), before);
    lab.ok(&[&init[..], &["--force"]].concat());
    assert_ne!(lab.read("model/model.safetensors"), before);
}

#[test]
fn a_plain_model_is_all_trainable() {
    let lab = Lab::new();
    let shown = lab.ok_json(&["inspect", "--model", "model", "--json"]);
    let tree = shown["tree"].as_str().unwrap();
    assert!(tree.contains("(0-1): 2 x GPT2Block("), "{tree}");
    let parameters = shown["parameters"].as_array().unwrap();
    // Two embeddings, the last norm, and in each block two norms and four layers with a bias.
    assert_eq!(parameters.len(), 2 + 2 + 2 * 12);
    let first = &parameters[0];
    assert_eq!(first["name"], "transformer.wte.weight");
    assert_eq!(first["shape"], serde_json::json!([lab.vocab_size, 16]));
    assert_eq!(first["numel"], lab.vocab_size * 16);
    assert!(
        parameters
            .iter()
            .all(|parameter| parameter["requires_grad"] == true)
    );
    assert_eq!(shown["trainable"], shown["all"]);
    assert_eq!(shown["trainable_percent"], 100.0);
}

#[test]
fn an_adapter_and_the_preview_of_its_config_look_the_same() {
    let lab = Lab::with_adapter();
    let saved = lab.ok(&adapted("inspect", &[]));
    let config = [
        "inspect",
        "--model",
        "model",
        "--config",
        "out/adapter_config.json",
    ];
    assert_eq!(lab.ok(&config), saved);
    assert!(saved.contains("trainable params: 512 ||"), "{saved}");

    let shown = lab.ok_json(&[&config[..], &["--json"]].concat());
    assert_eq!(shown["trainable"], 512);
    let trained: Vec<&str> = shown["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|parameter| parameter["requires_grad"] == true)
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let path = |layer, matrix| {
        format!("base_model.model.transformer.h.{layer}.attn.c_attn.{matrix}.default.weight")
    };
    let expected = [
        path(0, "lora_A"),
        path(0, "lora_B"),
        path(1, "lora_A"),
        path(1, "lora_B"),
    ];
    assert_eq!(trained, expected);
}
