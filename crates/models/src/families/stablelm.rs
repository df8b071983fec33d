//! StableLM 2 and 3.

use crate::dense::Family;
use crate::dense::layout::{AttentionPart, BlockPart, LLAMA, Layout};
use crate::parts::NormKind;

const PARALLEL: &[(&str, BlockPart)] = &[
    ("self_attn", BlockPart::Attention),
    ("mlp", BlockPart::Mlp),
    ("input_layernorm", BlockPart::BeforeAttention),
    ("dropout", BlockPart::Dropout),
];

const SERIAL: &[(&str, BlockPart)] = &[
    ("self_attn", BlockPart::Attention),
    ("mlp", BlockPart::Mlp),
    ("input_layernorm", BlockPart::BeforeAttention),
    ("post_attention_layernorm", BlockPart::BeforeMlp),
    ("dropout", BlockPart::Dropout),
];

const NORMED: &[(&str, AttentionPart)] = &[
    ("q_proj", AttentionPart::Query),
    ("k_proj", AttentionPart::Key),
    ("v_proj", AttentionPart::Value),
    ("o_proj", AttentionPart::Output),
    ("q_layernorm", AttentionPart::QueryNorm),
    ("k_layernorm", AttentionPart::KeyNorm),
];

/// `model_type = "stablelm"`: LayerNorm, a quarter of each head rotated; with `qk_layernorm` a norm
/// for each head of queries and keys.
pub const FAMILY: Family = Family {
    model_type: "stablelm",
    defaults: r#"{
        "vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25,
        "eos_token_id": 0
    }"#,
    switches: |keys, switches| {
        switches.parallel = keys.flag("use_parallel_residual")?;
        switches.layout = Layout {
            class: "StableLm",
            norm: NormKind::Layer,
            block: if switches.parallel { PARALLEL } else { SERIAL },
            ..LLAMA
        };
        if keys.flag("qk_layernorm")? {
            switches.layout.norm_per_head = Some("StableLmLayerNormPerHead");
            switches.layout.attention = NORMED;
        }
        switches.qkv_bias = keys.flag("use_qkv_bias")?;
        (switches.output_bias, switches.mlp_bias) = (false, false);
        switches.mlp_dropout = keys.dropout("hidden_dropout")?;
        Ok(())
    },
    ..Family::PLAIN
};
