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
        switches.forgets_short = true;
        switches.output_dropout = keys.dropout("resid_pdrop")?;
        switches.mlp_dropout = switches.output_dropout;
        switches.slide_all(keys)
    },
    presets: &[(
        "phi-4-mini",
        r#"{
            "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 200064,
            "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
            "num_attention_heads": 24, "num_key_value_heads": 8, "hidden_act": "silu",
            "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
            "initializer_range": 0.02, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75, "sliding_window": 262144, "attention_bias": false,
            "attention_dropout": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
            "tie_word_embeddings": true, "bos_token_id": 199999, "eos_token_id": 199999,
            "pad_token_id": 199999,
            "rope_scaling": {
                "type": "longrope",
                "long_factor": [
                    1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897,
                    1.956131817, 2.187582649, 2.446418898, 2.735880826, 3.059592084,
                    3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533,
                    5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158,
                    11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283,
                    20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03, 32.1, 32.13,
                    32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97, 33.28, 33.49,
                    33.5, 44.16, 47.77
                ],
                "short_factor": [
                    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
                    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
                    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
                    1.0, 1.0, 1.0
                ]
            }
        }"#,
    )],
    ..Family::PLAIN
};
