//! LoRA's configuration: defaults, errors, scaling, and PEFT's own files.

use super::*;
use crate::config::{TargetModules, TaskType, render_json};
use crate::methods::lora::read::optional_keys;
use std::path::PathBuf;

fn read(text: &str) -> Result<LoraConfig> {
    LoraConfig::from_json(text, "adapter_config.json")
}

/// The error for a file with `keys` in addition to the required ones.
fn error(keys: &str) -> String {
    let text = format!(r#"{{"peft_type": "LORA", "target_modules": ["c_attn"], {keys}}}"#);
    read(&text).unwrap_err().to_string()
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let config = read(r#"{"peft_type": "LORA", "target_modules": ["c_attn"]}"#).unwrap();
    assert_eq!(config, LoraConfig::new().with_target_modules(["c_attn"]));
    // The 41 keys of the table in PEFT's documentation of the file, without the keys of unused
    // variants: PEFT fills in their defaults.
    assert_eq!(config.to_json().len(), 25);
    assert_eq!(config.to_json().len() + optional_keys().len(), 41);
}

#[test]
fn keys_of_variants_are_written_where_a_file_has_named_them() {
    let text = r#"{"peft_type": "LORA", "use_qalora": false, "corda_config": null,
                   "megatron_core": "megatron.core"}"#;
    let json = read(text).unwrap().to_json();
    let named = ["use_qalora", "corda_config", "megatron_core"];
    assert!(named.iter().all(|key| json.contains_key(*key)), "{json:?}");
    for key in [
        "qalora_group_size",
        "eva_config",
        "loftq_config",
        "velora_config",
        "alora_invocation_tokens",
    ] {
        assert!(!json.contains_key(key), "{json:?}");
    }
    assert_eq!(
        error(r#""velora_config": {"a": 1}"#),
        "adapter_config.json: velora_config = {\"a\":1}: not supported yet; remove the key"
    );
}

#[test]
fn unknown_keys_are_kept_and_reported() {
    let config = read(r#"{"peft_type": "LORA", "spam": [1], "foobar": 2.5}"#).unwrap();
    assert_eq!(config.unknown_keys(), ["spam", "foobar"]);
    assert_eq!(config.to_json()["spam"], json!([1]));
}

#[test]
fn pattern_order_survives_reading_but_not_writing() {
    let config =
        read(r#"{"peft_type": "LORA", "rank_pattern": {"z": 3, "a": 4}, "lora_alpha": 22.6}"#)
            .unwrap();
    let keys: Vec<_> = config.rank_pattern.keys().collect();
    assert_eq!(keys, ["z", "a"]);
    let text = render_json(&config.to_json());
    assert!(text.contains("\"rank_pattern\": {\n    \"a\": 4,\n    \"z\": 3\n  }"));
    assert!(text.contains("\"lora_alpha\": 22.6,"));
}

#[test]
fn bad_values_are_errors_that_name_them() {
    for (keys, parts) in [
        (r#""r": 0"#, ["r = 0: ", "positive"]),
        (
            r#""r": 1000000000000000"#,
            ["r = 1000000000000000: ", "at most 65536"],
        ),
        (r#""r": -4"#, ["r = -4: ", "positive"]),
        (r#""r": 2.5"#, ["r = 2.5: ", "a whole number"]),
        (
            r#""rank_pattern": {"c_fc": 0}"#,
            ["\"c_fc\" = 0", "positive"],
        ),
        (r#""lora_dropout": 1.0"#, ["lora_dropout = 1", "below 1"]),
        (
            r#""lora_dropout": -0.1"#,
            ["lora_dropout = -0.1", "at least 0"],
        ),
        (r#""bias": "some""#, ["bias = \"some\"", "lora_only"]),
        (r#""task_type": "LM""#, ["task_type = \"LM\"", "CAUSAL_LM"]),
        (
            r#""target_modules": 3"#,
            ["target_modules = 3", "list of strings"],
        ),
        (
            r#""layers_pattern": "h""#,
            ["[\"h\"]", "layers_to_transform"],
        ),
        (
            r#""target_modules": "c_.*", "layers_to_transform": 1"#,
            ["layers_to_transform = [1]", "\"c_.*\""],
        ),
        (
            r#""target_modules": "all-linear", "layers_pattern": ["h"]"#,
            ["layers_pattern = [\"h\"]", "\"all-linear\""],
        ),
        (
            r#""lora_bias": true, "init_lora_weights": "gaussian""#,
            ["lora_bias", "gaussian"],
        ),
        (
            r#""init_lora_weights": "corda""#,
            ["\"corda\"", "not supported"],
        ),
        (
            r#""use_qalora": true"#,
            ["use_qalora = true", "not supported"],
        ),
        (
            r#""use_dora": true, "lora_bias": true"#,
            ["lora_bias = true", "use_dora = true"],
        ),
        (
            r#""trainable_token_indices": [3, 3]"#,
            ["trainable_token_indices", "token 3 twice"],
        ),
        (
            r#""loftq_config": {"a": 1}"#,
            ["loftq_config = {", "unknown field"],
        ),
        (
            r#""layer_replication": [[0, 2]]"#,
            ["[[0,2]]", "not supported"],
        ),
        (r#""peft_type": "IA3""#, ["peft_type = \"IA3\"", "LORA"]),
    ] {
        let message = error(keys);
        assert!(message.starts_with("adapter_config.json: "), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let message = read("{}").unwrap_err().to_string();
    assert!(message.contains("peft_type is missing"), "{message}");
}

#[test]
fn values_that_switch_nothing_on_are_fine() {
    let config = read(
        r#"{"peft_type": "LORA", "target_modules": "c_.*", "layers_pattern": "",
                "layers_to_transform": [], "loftq_config": null, "layer_replication": [],
                "rank_pattern": null, "r": null, "use_dora": null, "task_type": "CAUSAL_LM",
                "modules_to_save": "score"}"#,
    )
    .unwrap();
    assert_eq!(config.r, 8);
    assert_eq!(config.common.task_type, Some(TaskType::CausalLm));
    assert_eq!(config.common.modules_to_save, Some(vec!["score".into()]));
    assert_eq!(
        config.common.target_modules,
        Some(TargetModules::Pattern("c_.*".into()))
    );
}

#[test]
fn scaling_follows_the_patterns() {
    let config = LoraConfig::new()
        .with_r(4)
        .with_lora_alpha(12.0)
        .with_rank_pattern([("h.0.attn.c_attn", 16)])
        .with_alpha_pattern([("c_fc", 40.0)]);
    let scaling = |path| config.scaling(path).unwrap();
    assert_eq!(scaling("transformer.h.1.attn.c_attn"), 3.0);
    assert_eq!(scaling("transformer.h.0.attn.c_attn"), 0.75);
    assert_eq!(scaling("transformer.h.0.mlp.c_fc"), 10.0);
    let rslora = config.clone().with_use_rslora(true);
    assert_eq!(rslora.scaling("transformer.h.0.attn.c_attn").unwrap(), 3.0);
    assert_eq!(rslora.scaling("transformer.h.0.mlp.c_fc").unwrap(), 20.0);
}

/// The files that PEFT wrote for the conformance cases are written back byte for byte.
#[test]
fn files_of_peft_are_rewritten_unchanged() {
    let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/cases");
    let Ok(entries) = std::fs::read_dir(&cases) else {
        eprintln!("skipped: {} is not there", cases.display());
        return;
    };
    let mut rewritten = 0;
    for entry in entries {
        let file = entry.unwrap().path().join("adapter_config.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.display().to_string();
        if !text.contains("\"peft_type\": \"LORA\"") {
            let error = LoraConfig::from_json(&text, &name).unwrap_err().to_string();
            assert!(error.contains("peft_type = "), "{error}");
            continue;
        }
        match LoraConfig::from_json(&text, &name) {
            Ok(config) => {
                assert_eq!(render_json(&config.to_json()), text, "{name}");
                assert!(config.unknown_keys().is_empty(), "{name}");
                rewritten += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(rewritten > 0);
}
