//! Seed-OSS.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "seed_oss"`: biases as configured, dropout of the attention's output.
pub const FAMILY: Family = Family {
    model_type: "seed_oss",
    defaults: r#"{
        "vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648,
        "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8,
        "head_dim": 128, "max_position_embeddings": 524288, "rms_norm_eps": 1e-6,
        "attention_bias": true, "attention_dropout": 0.1, "residual_dropout": 0.1,
        "pad_token_id": 1, "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "SeedOss",
            norm: NormKind::Rms("SeedOssRMSNorm"),
            ..LLAMA
        };
        switches.output_bias = keys.flag("attention_out_bias")?;
        switches.output_dropout = keys.dropout("residual_dropout")?;
        Ok(())
    },
    ..Family::PLAIN
};
