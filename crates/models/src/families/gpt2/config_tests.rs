use super::*;
use crate::AutoConfig;
use std::fs;

/// transformers' file for `../shared/conformance/base/gpt2`.
const CONFORMANCE: &str = r#"{
  "activation_function": "gelu_new",
  "add_cross_attention": false,
  "architectures": [
"GPT2LMHeadModel"
  ],
  "attn_pdrop": 0.1,
  "bos_token_id": 0,
  "dtype": "bfloat16",
  "embd_pdrop": 0.1,
  "eos_token_id": 0,
  "initializer_range": 0.02,
  "layer_norm_epsilon": 1e-05,
  "model_type": "gpt2",
  "n_embd": 64,
  "n_head": 4,
  "n_inner": null,
  "n_layer": 2,
  "n_positions": 64,
  "pad_token_id": null,
  "transformers_version": "5.23.0",
  "use_cache": true,
  "vocab_size": 199
}"#;

fn error(json: &str) -> String {
    Gpt2Config::from_json(json).unwrap_err().to_string()
}

#[test]
fn presets_have_the_published_sizes() {
    let sizes = [124_439_808, 354_823_168, 774_030_080, 1_557_611_200];
    for (name, size) in Gpt2Config::presets().iter().copied().zip(sizes) {
        let mut config = Gpt2Config::preset(name).unwrap();
        config.validate().unwrap();
        assert_eq!(config.num_parameters(), size, "{name}");
        config.tie_word_embeddings = false;
        let head = config.vocab_size * config.n_embd;
        assert_eq!(config.num_parameters(), size + head, "{name}");
    }
    let error = AutoConfig::preset("gpt3").unwrap_err().to_string();
    assert!(
        error.contains("`gpt3`") && error.contains("gpt2-xl"),
        "{error}"
    );
}

#[test]
fn a_file_of_transformers_is_read_and_written_back() {
    let config = Gpt2Config::from_json(CONFORMANCE).unwrap();
    assert_eq!(
        (config.n_embd, config.inner_size(), config.n_layer),
        (64, 256, 2)
    );
    assert_eq!(config.eos_token_ids(), [0]);
    assert_eq!(config.extra["transformers_version"], "5.23.0");

    let written = config.to_json();
    let before: Value = serde_json::from_str(CONFORMANCE).unwrap();
    let after: Value = serde_json::from_str(&written).unwrap();
    for (key, value) in before.as_object().unwrap() {
        let value = if key == "dtype" {
            &Value::from("float32")
        } else {
            value
        };
        assert_eq!(&after[key], value, "{key}");
    }
    let keys: Vec<_> = after.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert_eq!(Gpt2Config::from_json(&written).unwrap().to_json(), written);
}

#[test]
fn end_tokens_may_be_a_list() {
    let config = Gpt2Config::from_json(r#"{"model_type":"gpt2","eos_token_id":[3,-1,60000,5]}"#);
    assert_eq!(config.unwrap().eos_token_ids(), [3, 5]);
}

#[test]
fn a_wrong_value_is_named() {
    let cases = [
        (
            r#""n_embd": "64""#,
            r#"n_embd = "64": invalid type: string "64", expected a whole number"#,
        ),
        (r#""n_layer": -1"#, "n_layer = -1"),
        (r#""n_layer": 0"#, "n_layer = 0 is not between 1 and"),
        (
            r#""n_layer": 1000000000000"#,
            "n_layer = 1000000000000 is not",
        ),
        (
            r#""n_head": 7"#,
            "n_embd = 768 is not a multiple of n_head = 7",
        ),
        (r#""n_embd": 12000000"#, "parameters, more than"),
        (r#""resid_pdrop": 1.0"#, "resid_pdrop = 1"),
        (r#""layer_norm_epsilon": 0"#, "layer_norm_epsilon = 0"),
        (
            r#""activation_function": "mish""#,
            "unknown value `mish`, expected one of `gelu_new`",
        ),
        (
            r#""activation_function": "xielu""#,
            "activation_function = \"xielu\" is not supported",
        ),
        (
            r#""eos_token_id": "x""#,
            "eos_token_id = \"x\": expected an integer or a list",
        ),
        (
            r#""add_cross_attention": true"#,
            "add_cross_attention = true",
        ),
    ];
    for (entry, message) in cases {
        let error = error(&format!(r#"{{"model_type": "gpt2", {entry}}}"#));
        assert!(error.contains(message), "{entry}: {error}");
    }
}

/// transformers 5.24: `GPT2Config(hidden_size=128, num_hidden_layers=4, …)` has `n_embd` 128.
#[test]
fn the_names_of_every_family_are_read_and_may_not_disagree() {
    let sizes = r#""model_type": "gpt2", "hidden_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 8, "max_position_embeddings": 256"#;
    let config = Gpt2Config::from_json(&format!("{{{sizes}}}")).unwrap();
    let found = [
        config.n_embd,
        config.n_layer,
        config.n_head,
        config.n_positions,
    ];
    assert_eq!(found, [128, 4, 8, 256]);
    let written = config.to_json();
    assert!(
        written.contains("\"n_embd\": 128") && !written.contains("hidden_size"),
        "{written}"
    );
    let both = format!(r#"{{{sizes}, "n_embd": 128, "n_layer": null}}"#);
    assert_eq!(Gpt2Config::from_json(&both).unwrap(), config);
    assert_eq!(
        error(&format!(r#"{{{sizes}, "n_embd": 64}}"#)),
        "n_embd = 64 and hidden_size = 128 have the same meaning and disagree: keep one of \
         them"
    );
}

#[test]
fn another_kind_of_file_is_said_to_be_one() {
    assert!(error("[1]").contains("not a JSON object"));
    assert!(error("{}").contains("no model_type"));
    assert!(error(r#"{"model_type": "llama"}"#).contains(r#"model_type "llama" is not"#));
    let adapter = error(r#"{"peft_type": "LORA", "r": 8}"#);
    assert!(
        adapter.contains("adapter (peft_type \"LORA\")"),
        "{adapter}"
    );

    let folder = tempfile::tempdir().unwrap();
    let missing = Gpt2Config::from_file(folder.path().join("config.json")).unwrap_err();
    assert!(missing.to_string().contains("config.json: "), "{missing}");
    fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    let adapter = Gpt2Config::from_file(folder.path().join("config.json")).unwrap_err();
    assert!(adapter.to_string().contains("is an adapter"), "{adapter}");
}
