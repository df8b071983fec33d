//! Phi-1, Phi-1.5, Phi-2.

use crate::dense::Family;
use crate::dense::layout::{AttentionPart, BlockPart, LLAMA, Layout, MlpPart, ModelPart};
use crate::parts::NormKind;

const ATTENTION: &[(&str, AttentionPart)] = &[
    ("q_proj", AttentionPart::Query),
    ("k_proj", AttentionPart::Key),
    ("v_proj", AttentionPart::Value),
    ("dense", AttentionPart::Output),
    ("q_layernorm", AttentionPart::QueryNorm),
    ("k_layernorm", AttentionPart::KeyNorm),
];

/// `model_type = "phi"`: attention and feed-forward network in parallel, biases everywhere.
pub const FAMILY: Family = Family {
    model_type: "phi",
    defaults: r#"{
        "vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 24, "num_attention_heads": 32, "hidden_act": "gelu_new",
        "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5,
        "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Phi",
            norm: NormKind::Layer,
            model: &[
                ("embed_tokens", ModelPart::Embedding),
                ("layers", ModelPart::Blocks),
                ("rotary_emb", ModelPart::Rotary),
                ("embed_dropout", ModelPart::EmbeddingDropout),
                ("final_layernorm", ModelPart::Norm),
            ],
            block: &[
                ("self_attn", BlockPart::Attention),
                ("mlp", BlockPart::Mlp),
                ("input_layernorm", BlockPart::BeforeAttention),
                ("resid_dropout", BlockPart::Dropout),
            ],
            attention: if keys.flag("qk_layernorm")? {
                ATTENTION
            } else {
                &ATTENTION[..4]
            },
            mlp: &[
                ("activation_fn", MlpPart::Activation),
                ("fc1", MlpPart::Up),
                ("fc2", MlpPart::Down),
            ],
            ..LLAMA
        };
        switches.parallel = true;
        (switches.qkv_bias, switches.output_bias) = (true, true);
        (switches.mlp_bias, switches.head_bias) = (true, true);
        switches.embedding_dropout = keys.dropout("embd_pdrop")?;
        switches.output_dropout = keys.dropout("resid_pdrop")?;
        switches.mlp_dropout = switches.output_dropout;
        Ok(())
    },
    ..Family::PLAIN
};
