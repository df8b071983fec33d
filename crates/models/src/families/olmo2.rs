//! OLMo 2.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout, NORMED_ATTENTION, NORMS_AFTER};
use crate::parts::NormKind;

/// `model_type = "olmo2"`: norms after the parts, and norms over all queries and over all keys.
pub const FAMILY: Family = Family {
    model_type: "olmo2",
    defaults: r#"{
        "vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "pad_token_id": 1, "eos_token_id": 50279
    }"#,
    switches: |_, switches| {
        switches.layout = Layout {
            class: "Olmo2",
            norm: NormKind::Rms("Olmo2RMSNorm"),
            block: NORMS_AFTER,
            attention: NORMED_ATTENTION,
            ..LLAMA
        };
        switches.norm_all_heads = true;
        Ok(())
    },
    ..Family::PLAIN
};
