//! GLM-4.

use crate::dense::Family;
use crate::dense::layout::{BlockPart, FUSED_GATE, LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "glm4"`: four norms a block, half of each head rotated, neighbouring values
/// together; gate and inner values in one product.
pub const FAMILY: Family = Family {
    model_type: "glm4",
    defaults: r#"{
        "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
        "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-7,
        "attention_bias": true, "partial_rotary_factor": 0.5, "pad_token_id": 151329,
        "eos_token_id": [151329, 151336, 151338]
    }"#,
    switches: |_, switches| {
        switches.layout = Layout {
            class: "Glm4",
            norm: NormKind::Rms("Glm4RMSNorm"),
            block: &[
                ("self_attn", BlockPart::Attention),
                ("mlp", BlockPart::Mlp),
                ("input_layernorm", BlockPart::BeforeAttention),
                ("post_attention_layernorm", BlockPart::BeforeMlp),
                ("post_self_attn_layernorm", BlockPart::AfterAttention),
                ("post_mlp_layernorm", BlockPart::AfterMlp),
            ],
            mlp: FUSED_GATE,
            ..LLAMA
        };
        switches.output_bias = false;
        switches.mlp_bias = false;
        switches.interleaved = true;
        Ok(())
    },
    ..Family::PLAIN
};
