//! Hunyuan.

use crate::dense::Family;
use crate::dense::layout::{AttentionPart, LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "hunyuan_v1_dense"`: norms of each head's queries and keys after the rotation.
pub const FAMILY: Family = Family {
    model_type: "hunyuan_v1_dense",
    defaults: r#"{
        "vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "pad_token_id": 0, "eos_token_id": 2
    }"#,
    switches: |_, switches| {
        switches.layout = Layout {
            class: "HunYuanDenseV1",
            norm: NormKind::Rms("HunYuanDenseV1RMSNorm"),
            attention: &[
                ("q_proj", AttentionPart::Query),
                ("k_proj", AttentionPart::Key),
                ("v_proj", AttentionPart::Value),
                ("o_proj", AttentionPart::Output),
                ("query_layernorm", AttentionPart::QueryNorm),
                ("key_layernorm", AttentionPart::KeyNorm),
            ],
            ..LLAMA
        };
        switches.norm_after_rope = true;
        Ok(())
    },
    ..Family::PLAIN
};
