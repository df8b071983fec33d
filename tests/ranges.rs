//! Every number in a method's configuration has a range.

use std::sync::Arc;

use burn_peft::config::Fields;
use burn_peft::methods::{config_from_fields, peft_types};
use burn_peft::{Method, PeftModel, Result};
use serde_json::{Map, Value, json};

use crate::common::{Lab, adapted};
use crate::conformance::base;

/// The smallest usable configuration of a method.
fn smallest(peft_type: &str) -> Map<String, Value> {
    let mut keys = json!({ "peft_type": peft_type });
    let more = match peft_type {
        "ADALORA" => json!({ "total_step": 100 }),
        "PROMPT_TUNING" | "P_TUNING" | "PREFIX_TUNING" => json!({ "num_virtual_tokens": 3 }),
        "TRAINABLE_TOKENS" => json!({ "token_indices": [1, 2] }),
        "OFT" | "BOFT" | "LOHA" | "LOKR" | "HRA" | "RANDLORA" => {
            json!({ "target_modules": ["c_attn"] })
        }
        "VBLORA" => json!({ "vector_length": 8, "num_vectors": 4 }),
        "VERA" => json!({ "r": 4 }),
        "C3A" => json!({ "block_size": 8 }),
        "FOURIERFT" | "WAVEFT" => json!({ "n_frequency": 10 }),
        _ => json!({}),
    };
    let keys = keys.as_object_mut().unwrap();
    keys.extend(more.as_object().unwrap().clone());
    keys.clone()
}

fn read(keys: Map<String, Value>) -> Result<Arc<dyn Method>> {
    config_from_fields(Fields::new(keys, "adapter_config.json"))
}

/// Each gives either an error that names the key, or a configuration that can be attached: never a
/// panic, and never memory for a size that no model has.
#[test]
fn a_number_out_of_all_bounds_is_an_error_with_its_key() {
    let extremes = [
        json!(-1),
        json!(0),
        json!(2_147_483_648_u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(-1e308),
        json!(1e-308),
    ];
    let base = base();
    for peft_type in peft_types() {
        let smallest = smallest(&peft_type);
        let Ok(config) = read(smallest.clone()) else {
            // A method that another test has registered.
            continue;
        };
        let mut refused = 0;
        for (key, value) in config.to_json() {
            for extreme in &extremes {
                let value = match &value {
                    Value::Object(_) if key.ends_with("_pattern") => json!({ "c_attn": extreme }),
                    Value::Number(_) | Value::Null => extreme.clone(),
                    _ => continue,
                };
                let mut keys = smallest.clone();
                keys.insert(key.clone(), value.clone());
                let attached =
                    read(keys).and_then(|config| PeftModel::new(base.clone(), "default", config));
                if let Err(error) = attached {
                    let error = error.to_string();
                    assert!(error.contains(&key), "{peft_type} {key} = {value}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 20, "{peft_type}: {refused} refused");
    }
}

#[test]
fn the_error_has_key_value_and_range() {
    let error = |peft_type: &str, key: &str, value: Value| {
        let mut keys = smallest(peft_type);
        keys.insert(key.into(), value);
        read(keys).unwrap_err().to_string()
    };
    assert_eq!(
        error("GRALORA", "hybrid_r", json!(2_147_483_648_u64)),
        "adapter_config.json: hybrid_r = 2147483648: must be at least 0 and at most 65536"
    );
    assert_eq!(
        error("VBLORA", "init_vector_bank_bound", json!(-0.5)),
        "adapter_config.json: init_vector_bank_bound = -0.5: must be at least 0 and at most 1000000"
    );
    let lora = [
        (
            "init_lora_weights",
            json!("pissa_niter_4000000000"),
            "4000000000",
        ),
        ("rank_pattern", json!({ "c_attn": 70_000 }), "70000"),
        (
            "alpha_pattern",
            json!({ "c_attn": 1e300 }),
            "at most 1000000000000",
        ),
        ("eva_config", json!({ "rho": 1e300 }), "eva_config.rho"),
    ];
    for (key, value, named) in lora {
        let error = error("LORA", key, value);
        assert!(error.contains(named), "{error}");
    }
    let mut keys = smallest("LORA");
    keys.insert("init_lora_weights".into(), json!("loftq"));
    keys.insert(
        "loftq_config".into(),
        json!({ "loftq_bits": 4, "loftq_iter": 4_000_000_000_u64 }),
    );
    let error = read(keys).unwrap_err().to_string();
    assert!(
        error.contains("loftq_config.loftq_iter = 4000000000: must be"),
        "{error}"
    );
}

/// If the file does not fit its configuration, the error comes before any tensor is made.
#[test]
fn a_rank_that_the_file_cannot_hold_is_refused_before_it_is_made() {
    let lab = Lab::with_adapter();
    let mut config = lab.json("out/adapter_config.json");
    config["r"] = json!(65_536);
    lab.write("out/adapter_config.json", config.to_string());
    let eval = adapted("eval", &["--data", "train.jsonl"]);
    lab.fails(&eval, &["too small for its configuration", "65536"]);
}
