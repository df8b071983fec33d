//! Ministral 3.

use crate::dense::layout::{LLAMA, Layout};
use crate::dense::{Family, QueryGrowth};
use crate::parts::NormKind;

/// `model_type = "ministral3"`: queries grow at positions beyond those of the original training.
pub const FAMILY: Family = Family {
    model_type: "ministral3",
    defaults: r#"{
        "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 34, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "max_position_embeddings": 262144, "rms_norm_eps": 1e-5,
        "pad_token_id": 11, "eos_token_id": 2,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0,
            "original_max_position_embeddings": 16384, "beta_fast": 32.0, "beta_slow": 1.0,
            "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1
        }
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Ministral3",
            norm: NormKind::Rms("Ministral3RMSNorm"),
            ..LLAMA
        };
        if let Some(table) = keys.object_if("rope_parameters")?
            && let Some(beta) = table.number_if("llama_4_scaling_beta")?
        {
            let original = table.size_if("original_max_position_embeddings")?;
            let original = original.unwrap_or(switches.max_positions);
            switches.query_growth = Some(QueryGrowth { beta, original });
        }
        switches.slide_all(keys)
    },
    ..Family::PLAIN
};
