//! Ministral 8B.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "ministral"`: Mistral with windows in the layers that `layer_types` names.
pub const FAMILY: Family = Family {
    model_type: "ministral",
    defaults: r#"{
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Ministral",
            norm: NormKind::Rms("MinistralRMSNorm"),
            ..LLAMA
        };
        switches.slide(keys, |_| true)
    },
    ..Family::PLAIN
};
