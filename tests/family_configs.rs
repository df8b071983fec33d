//! How the families' configurations are read (`fixtures/families/configs_read.json`, made by
//! transformers), which presets `peft init` knows, and how weights are initialised.

use std::collections::BTreeMap;
use std::fs;

use burn_peft_models::auto::model_types;
use burn_peft_models::weights::initial_weights;
use burn_peft_models::{AutoConfig, DenseConfig, ModelConfig};
use serde_json::{Value, json};

use crate::conformance::fixtures;

fn reference() -> Value {
    let text = fs::read_to_string(fixtures().join("families/configs_read.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn dense(config: &Value) -> DenseConfig {
    DenseConfig::from_json(&config.to_string()).unwrap_or_else(|error| panic!("{error}: {config}"))
}

#[test]
fn every_family_is_in_the_lists_of_models() {
    for page in ["README.md", "docs/models.md"] {
        let text = fs::read_to_string(fixtures().join("../..").join(page)).unwrap();
        for family in model_types() {
            assert!(text.contains(&format!("`{family}`")), "{page}: {family}");
        }
    }
}

#[test]
fn missing_keys_are_what_transformers_takes() {
    for (family, expected) in reference()["defaults"].as_object().unwrap() {
        let config = dense(&json!({ "model_type": family }));
        let parameters = config.num_parameters() as u64;
        assert_eq!(expected["parameters"], parameters, "{family}");
        let windows = config.switches().layers.iter().map(|layer| layer.window);
        let windows = json!(windows.collect::<Vec<_>>());
        assert_eq!(expected["windows"], windows, "{family}");
        let common = config.common();
        assert_eq!(expected["max_positions"], common.max_positions, "{family}");
        assert_eq!(expected["eos"], json!(common.eos_token_id), "{family}");
    }
}

#[test]
fn frequencies_are_those_of_transformers() {
    for case in reference()["ropes"].as_array().unwrap() {
        let config = dense(&case["config"]);
        for table in case["tables"].as_array().unwrap() {
            let index = usize::from(table["kind"] == "sliding_attention");
            let rope = &config.switches().ropes[index];
            let close = |a: f64, b: &Value| {
                let b = b.as_f64().unwrap();
                assert!((a - b).abs() <= 1e-6 * b, "{a} in place of {b}: {case}");
            };
            close(rope.attention_factor, &table["factor"]);
            let length = table["length"].as_u64().unwrap() as usize;
            let found = rope.frequencies(length).into_iter().step_by(10);
            let found: Vec<f32> = found.collect();
            let expected = table["frequencies"].as_array().unwrap();
            assert_eq!(found.len(), expected.len(), "{case}");
            for (found, expected) in found.into_iter().zip(expected) {
                close(found.into(), expected);
            }
        }
    }
}

#[test]
fn presets_have_the_published_sizes() {
    let sizes = BTreeMap::from([
        ("smollm2-135m", 134_515_008),
        ("smollm2-360m", 361_821_120),
        ("smollm2-1.7b", 1_711_376_384),
        ("llama-3.2-1b", 1_235_814_400),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-1.7b", 1_720_574_976),
        ("gemma-3-270m", 268_098_176),
        ("gemma-3-1b", 999_885_952),
        ("pythia-160m", 162_322_944),
        ("phi-4-mini", 3_836_021_760),
        ("bert-base-uncased", 109_514_298),
        ("roberta-base", 124_697_433),
        ("distilbert-base-uncased", 66_985_530),
        ("modernbert-base", 149_655_232),
        ("modernbert-large", 395_881_664),
    ]);
    let presets = AutoConfig::presets();
    let presets = presets.iter().filter(|name| !name.starts_with("gpt2"));
    assert_eq!(presets.clone().count(), sizes.len());
    for name in presets {
        let config = AutoConfig::preset(name).unwrap();
        assert_eq!(config.num_parameters(), sizes[name], "{name}");
    }
}

#[test]
fn weights_begin_as_transformers_begins() {
    let values = |family: &str, name: &str| -> Vec<f32> {
        let config = json!({
            "model_type": family, "vocab_size": 20, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "pad_token_id": 3, "initializer_range": 0.3,
        });
        let mut tensors = initial_weights(&dense(&config), 7).into_iter();
        let tensor = tensors.find(|tensor| tensor.name == name).expect(name);
        tensor.load().unwrap().try_into_vec().unwrap()
    };
    let rows = values("llama", "model.embed_tokens.weight");
    assert_eq!(rows[24..32], [0.0; 8]);
    assert!(!rows[..24].contains(&0.0) && !rows[32..].contains(&0.0));
    assert!(!values("gpt_neox", "gpt_neox.embed_in.weight").contains(&0.0));
    assert!(!values("gpt_neox", "embed_out.weight").contains(&0.0));
    assert_eq!(
        values("qwen3", "model.layers.0.self_attn.q_norm.weight"),
        [1.0; 4]
    );
    assert_eq!(values("gemma2", "model.norm.weight"), [0.0; 8]);
    assert_eq!(values("phi", "model.layers.0.mlp.fc1.bias"), [0.0; 8]);
    let act = |name: &str| values("apertus", &format!("model.layers.0.mlp.act_fn.{name}"))[0];
    // softplus(alpha_p) = 0.8 and 0.5 + softplus(alpha_n) = 0.8.
    let softplus = |x: f32| x.exp().ln_1p();
    assert!((softplus(act("alpha_p")) - 0.8).abs() < 1e-6);
    assert!((softplus(act("alpha_n")) - 0.3).abs() < 1e-6);
    assert_eq!([act("beta"), act("eps")], [0.5, -1e-6]);
}

#[test]
fn what_makes_no_model_is_named() {
    let error = |key: &str, value: Value| {
        let mut config = json!({ "model_type": "llama" });
        config[key] = value;
        DenseConfig::from_json(&config.to_string())
            .unwrap_err()
            .to_string()
    };
    for (key, value, words) in [
        ("hidden_size", json!(0), "hidden_size = 0 is not between"),
        (
            "hidden_size",
            json!("wide"),
            "hidden_size = \"wide\": expected a whole number",
        ),
        (
            "num_key_value_heads",
            json!(5),
            "num_attention_heads = 32 is not a multiple",
        ),
        (
            "head_dim",
            json!(1 << 24),
            "num_attention_heads · head_dim = 536870912",
        ),
        ("num_hidden_layers", json!(2000), "num_hidden_layers = 2000"),
        ("hidden_act", json!("mish"), "hidden_act = \"mish\""),
        (
            "rms_norm_eps",
            json!(-1.0),
            "rms_norm_eps = -1 is not above 0",
        ),
        ("attention_dropout", json!(1.5), "attention_dropout = 1.5"),
        ("rope_theta", json!(0), "rope_theta = 0 is not above 1"),
        (
            "rope_scaling",
            json!(4),
            "rope_scaling = 4: expected an object",
        ),
        (
            "rope_scaling",
            json!({ "type": "mystic" }),
            "rope_type = \"mystic\" is not supported",
        ),
        (
            "rope_scaling",
            json!({ "type": "linear" }),
            "factor is missing",
        ),
        (
            "rope_scaling",
            json!({ "type": "longrope", "short_factor": [1], "long_factor": [1] }),
            "short_factor has 1 numbers: expected 64",
        ),
        ("eos_token_id", json!("</s>"), "eos_token_id = \"</s>\""),
    ] {
        let error = error(key, value);
        assert!(error.contains(words), "{error}");
    }
    let window = json!({
        "model_type": "gemma2", "num_hidden_layers": 2, "sliding_window": null,
        "layer_types": ["sliding_attention", "full_attention"],
    });
    let error = DenseConfig::from_json(&window.to_string()).unwrap_err();
    assert!(
        error.to_string().contains("sliding_window is missing"),
        "{error}"
    );
}

#[test]
fn caps_that_are_none_in_32_bits_are_named() {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        let config = |value: Value| {
            let mut config = json!({ "model_type": "gemma2" });
            config[key] = value;
            DenseConfig::from_json(&config.to_string())
        };
        for text in ["1e-60", "1e-40", "1e60", "-50.0", "0"] {
            let value: Value = serde_json::from_str(text).unwrap();
            let error = config(value).unwrap_err().to_string();
            assert!(error.contains(&format!("{key} = ")), "{error}");
            assert!(error.contains("is not above 0 and finite"), "{error}");
            assert!(error.contains("set it to null"), "{error}");
        }
        assert!(config(json!(1e-6)).is_ok() && config(Value::Null).is_ok());
    }
}
