//! Phi-3, Phi-3.5, Phi-4.

use crate::dense::Family;
use crate::dense::layout::{AttentionPart, BlockPart, FUSED_GATE, LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "phi3"`: one product for query, key and value, and one for gate and inner values.
pub const FAMILY: Family = Family {
    model_type: "phi3",
    defaults: r#"{
        "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "pad_token_id": 32000,
        "eos_token_id": 32000
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Phi3",
            norm: NormKind::Rms("Phi3RMSNorm"),
            block: &[
                ("self_attn", BlockPart::Attention),
                ("mlp", BlockPart::Mlp),
                ("input_layernorm", BlockPart::BeforeAttention),
                ("post_attention_layernorm", BlockPart::BeforeMlp),
                ("resid_attn_dropout", BlockPart::Dropout),
                ("resid_mlp_dropout", BlockPart::Dropout),
            ],
            attention: &[
                ("o_proj", AttentionPart::Output),
                ("qkv_proj", AttentionPart::Fused),
            ],
            mlp: FUSED_GATE,
            ..LLAMA
        };
        (switches.qkv_bias, switches.output_bias, switches.mlp_bias) = (false, false, false);
        switches.output_dropout = keys.dropout("resid_pdrop")?;
        switches.mlp_dropout = switches.output_dropout;
        switches.slide_all(keys)
    },
    presets: &[],
};
