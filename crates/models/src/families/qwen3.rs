//! Qwen3.

use super::qwen2::slide;
use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout, NORMED_ATTENTION};
use crate::parts::NormKind;

/// `model_type = "qwen3"`: norms of each head's queries and keys, before the rotation.
pub const FAMILY: Family = Family {
    model_type: "qwen3",
    defaults: r#"{
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "head_dim": 128, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "sliding_window": 4096, "max_window_layers": 28
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Qwen3",
            norm: NormKind::Rms("Qwen3RMSNorm"),
            attention: NORMED_ATTENTION,
            ..LLAMA
        };
        slide(keys, switches)
    },
    presets: &[
        (
            "qwen3-0.6b",
            r#"{
                "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936,
                "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
                "hidden_act": "silu", "max_position_embeddings": 40960, "initializer_range": 0.02,
                "rms_norm_eps": 1e-6, "rope_theta": 1000000, "attention_bias": false,
                "attention_dropout": 0.0, "tie_word_embeddings": true, "bos_token_id": 151643,
                "eos_token_id": 151645
            }"#,
        ),
        (
            "qwen3-1.7b",
            r#"{
                "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936,
                "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
                "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
                "hidden_act": "silu", "max_position_embeddings": 40960, "initializer_range": 0.02,
                "rms_norm_eps": 1e-6, "rope_theta": 1000000, "attention_bias": false,
                "attention_dropout": 0.0, "tie_word_embeddings": true, "bos_token_id": 151643,
                "eos_token_id": 151645
            }"#,
        ),
    ],
    ..Family::PLAIN
};
