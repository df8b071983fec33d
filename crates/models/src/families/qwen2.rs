//! Qwen2, Qwen2.5.

use crate::dense::layout::{LLAMA, Layout};
use crate::dense::{Family, Keys, Switches};
use crate::parts::NormKind;

/// `model_type = "qwen2"`: biases of query, key and value; optional windows from some layer on.
pub const FAMILY: Family = Family {
    model_type: "qwen2",
    defaults: r#"{
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        "max_window_layers": 28
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Qwen2",
            norm: NormKind::Rms("Qwen2RMSNorm"),
            ..LLAMA
        };
        switches.qkv_bias = true;
        switches.output_bias = false;
        slide(keys, switches)
    },
    presets: &[(
        "qwen2.5-0.5b",
        r#"{
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151936,
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_act": "silu",
            "max_position_embeddings": 32768, "initializer_range": 0.02, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "use_sliding_window": false, "sliding_window": 32768,
            "max_window_layers": 24, "attention_dropout": 0.0, "tie_word_embeddings": true,
            "bos_token_id": 151643, "eos_token_id": 151643
        }"#,
    )],
    ..Family::PLAIN
};

/// Windows from layer `max_window_layers` on, if `use_sliding_window` is set.
pub(super) fn slide(keys: &Keys, switches: &mut Switches) -> Result<(), String> {
    let first = keys.number_or("max_window_layers", 28.0)? as usize;
    let asked_for = keys.flag("use_sliding_window")?;
    if asked_for {
        switches.slide(keys, |layer| layer >= first)
    } else {
        Ok(())
    }
}
