//! Gemma 3: the text models, and the text part of the models that also take images.

use serde_json::{Map, Value};

use super::gemma2::scores;
use crate::dense::layout::{LLAMA, Layout, NORMED_ATTENTION, NORMS_AROUND, Renamed};
use crate::dense::{Family, ROPE_KEYS, RopeKeys, Switches};
use crate::parts::NormKind;

/// `model_type = "gemma3_text"`: norms of queries and keys; a separate rotary base in layers with a
/// window.
pub const FAMILY: Family = Family {
    model_type: "gemma3_text",
    defaults: r#"{
        "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
        "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "pad_token_id": 0,
        "eos_token_id": 1
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Gemma3",
            norm: NormKind::RmsAroundOne("Gemma3RMSNorm"),
            base_class: "TextModel",
            embedding_class: "Gemma3TextScaledWordEmbedding",
            block: NORMS_AROUND,
            attention: NORMED_ATTENTION,
            ..LLAMA
        };
        scores(keys, switches)?;
        let pattern = keys.size("sliding_window_pattern")?;
        switches.slide(keys, Switches::all_but_every(pattern))?;
        let local = RopeKeys {
            theta: "rope_local_base_freq",
            scaled: false,
            ..ROPE_KEYS
        };
        switches.turn_windows_by(keys, local)
    },
    presets: &[
        (
            "gemma-3-270m",
            r#"{
                "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048,
                "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1,
                "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
                "max_position_embeddings": 32768, "initializer_range": 0.02,
                "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256, "sliding_window": 512,
                "sliding_window_pattern": 6, "rope_theta": 1000000.0,
                "rope_local_base_freq": 10000.0, "attention_bias": false,
                "attention_dropout": 0.0, "tie_word_embeddings": true, "bos_token_id": 2,
                "eos_token_id": 1, "pad_token_id": 0
            }"#,
        ),
        (
            "gemma-3-1b",
            r#"{
                "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
                "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
                "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
                "max_position_embeddings": 32768, "initializer_range": 0.02,
                "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256, "sliding_window": 512,
                "sliding_window_pattern": 6, "rope_theta": 1000000.0,
                "rope_local_base_freq": 10000.0, "attention_bias": false,
                "attention_dropout": 0.0, "tie_word_embeddings": true, "bos_token_id": 2,
                "eos_token_id": 1, "pad_token_id": 0
            }"#,
        ),
    ],
    ..Family::PLAIN
};

/// `model_type = "gemma3"`: the same keys, nested in `text_config`.
pub const WITH_IMAGES: Family = Family {
    model_type: "gemma3",
    switches: |keys, switches| {
        (FAMILY.switches)(keys, switches)?;
        switches.layout = Layout {
            base: "model.language_model",
            model_class: "ForConditionalGeneration",
            renamed: RENAMED,
            left_out: &["vision_tower.", "multi_modal_projector."],
            ..switches.layout
        };
        Ok(())
    },
    presets: &[],
    own_keys: text_part,
    ..FAMILY
};

/// The keys of the text part. Only that part is written, which transformers knows as a family of
/// its own.
fn text_part(mut keys: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(mut text)) = keys.shift_remove("text_config") else {
        return keys;
    };
    for key in [
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "dtype",
        "torch_dtype",
    ] {
        if let Some(value) = keys.shift_remove(key) {
            text.insert(key.to_string(), value);
        }
    }
    text.entry("model_type").or_insert(FAMILY.model_type.into());
    text
}

/// It is written as a text model; old checkpoints have other names than new ones.
const RENAMED: &[Renamed] = &[
    renamed("model.language_model.", "model.", true),
    renamed("model.language_model.", "language_model.model.", false),
    renamed("lm_head.", "language_model.lm_head.", false),
];

const fn renamed(here: &'static str, there: &'static str, written: bool) -> Renamed {
    Renamed {
        here,
        there,
        written,
    }
}
