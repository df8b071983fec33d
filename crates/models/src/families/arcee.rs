//! AFM.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout, UNGATED};
use crate::parts::NormKind;

/// `model_type = "arcee"`: a feed-forward network without a gate.
pub const FAMILY: Family = Family {
    model_type: "arcee",
    defaults: r#"{
        "vocab_size": 32000, "hidden_size": 2560, "intermediate_size": 18432,
        "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_act": "relu2",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "eos_token_id": 128001
    }"#,
    switches: |_, switches| {
        switches.layout = Layout {
            class: "Arcee",
            norm: NormKind::Rms("ArceeRMSNorm"),
            mlp: UNGATED,
            ..LLAMA
        };
        Ok(())
    },
    ..Family::PLAIN
};
