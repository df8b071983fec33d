//! Apertus.

use crate::dense::Family;
use crate::dense::layout::{BlockPart, LLAMA, Layout, NORMED_ATTENTION, UNGATED};
use crate::parts::NormKind;

/// `model_type = "apertus"`: a learnt activation without a gate; norms of queries and keys.
pub const FAMILY: Family = Family {
    model_type: "apertus",
    defaults: r#"{
        "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_act": "xielu",
        "max_position_embeddings": 65536, "rms_norm_eps": 1e-5, "pad_token_id": 3,
        "eos_token_id": 2, "rope_theta": 12000000.0,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0,
            "original_max_position_embeddings": 8192, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0
        }
    }"#,
    switches: |_, switches| {
        switches.layout = Layout {
            class: "Apertus",
            norm: NormKind::Rms("ApertusRMSNorm"),
            block: &[
                ("self_attn", BlockPart::Attention),
                ("mlp", BlockPart::Mlp),
                ("attention_layernorm", BlockPart::BeforeAttention),
                ("feedforward_layernorm", BlockPart::BeforeMlp),
            ],
            attention: NORMED_ATTENTION,
            mlp: UNGATED,
            left_out: &["act_fn.beta", "act_fn.eps", "rotary_emb.inv_freq"],
            ..LLAMA
        };
        Ok(())
    },
    ..Family::PLAIN
};
