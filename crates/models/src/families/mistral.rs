//! Mistral 7B, Nemo.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "mistral"`: Llama with a sliding window in every layer.
pub const FAMILY: Family = Family {
    model_type: "mistral",
    defaults: r#"{
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Mistral",
            norm: NormKind::Rms("MistralRMSNorm"),
            ..LLAMA
        };
        switches.slide_all(keys)
    },
    ..Family::PLAIN
};
