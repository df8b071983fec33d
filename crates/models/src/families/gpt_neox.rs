//! GPT-NeoX, Pythia.

use crate::dense::layout::{AttentionPart, BlockPart, LLAMA, Layout, MlpPart, ModelPart, Renamed};
use crate::dense::{Family, ROPE_KEYS, RopeKeys, rope};
use crate::parts::NormKind;

/// `model_type = "gpt_neox"`: the query, key and value of each head side by side in one product; a
/// quarter of each head is rotated.
pub const FAMILY: Family = Family {
    model_type: "gpt_neox",
    defaults: r#"{
        "vocab_size": 50432, "hidden_size": 6144, "intermediate_size": 24576,
        "num_hidden_layers": 44, "num_attention_heads": 64, "hidden_act": "gelu",
        "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "attention_bias": true,
        "use_parallel_residual": true, "rotary_pct": 0.25, "rotary_emb_base": 10000.0,
        "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "GPTNeoX",
            norm: NormKind::Layer,
            base: "gpt_neox",
            embedding_pads: false,
            block_class: "Layer",
            model: &[
                ("embed_in", ModelPart::Embedding),
                ("emb_dropout", ModelPart::EmbeddingDropout),
                ("layers", ModelPart::Blocks),
                ("final_layer_norm", ModelPart::Norm),
                ("rotary_emb", ModelPart::Rotary),
            ],
            block: &[
                ("input_layernorm", BlockPart::BeforeAttention),
                ("post_attention_layernorm", BlockPart::BeforeMlp),
                ("post_attention_dropout", BlockPart::Dropout),
                ("post_mlp_dropout", BlockPart::Dropout),
                ("attention", BlockPart::Attention),
                ("mlp", BlockPart::Mlp),
            ],
            attention: &[
                ("query_key_value", AttentionPart::Fused),
                ("dense", AttentionPart::Output),
            ],
            mlp: &[
                ("dense_h_to_4h", MlpPart::Up),
                ("dense_4h_to_h", MlpPart::Down),
                ("act", MlpPart::Activation),
            ],
            renamed: &[Renamed {
                here: "lm_head.",
                there: "embed_out.",
                written: true,
            }],
            left_out: &[
                "attention.bias",
                "attention.masked_bias",
                "rotary_emb.inv_freq",
            ],
            ..LLAMA
        };
        switches.mlp_bias = true;
        switches.parallel = keys.flag("use_parallel_residual")?;
        switches.fused_by_head = true;
        // Every head has its own keys there, whatever another key says.
        switches.kv_heads = switches.heads;
        let head_dim = switches.head_dim;
        let names = RopeKeys {
            theta: "rotary_emb_base",
            share: "rotary_pct",
            ..ROPE_KEYS
        };
        switches.ropes = vec![rope(keys, names, "full_attention", head_dim)?];
        let dropout = keys.dropout("hidden_dropout")?;
        (switches.embedding_dropout, switches.output_dropout) = (dropout, dropout);
        switches.mlp_dropout = dropout;
        Ok(())
    },
    presets: &[(
        "pythia-160m",
        r#"{
            "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox",
            "vocab_size": 50304, "hidden_size": 768, "intermediate_size": 3072,
            "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "gelu",
            "max_position_embeddings": 2048, "initializer_range": 0.02, "layer_norm_eps": 1e-5,
            "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": true,
            "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 0
        }"#,
    )],
    ..Family::PLAIN
};
