//! ERNIE 4.5.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "ernie4_5"`: neighbouring values are rotated together; one key for all biases.
pub const FAMILY: Family = Family {
    model_type: "ernie4_5",
    defaults: r#"{
        "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 2,
        "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "tie_word_embeddings": true, "pad_token_id": 0, "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Ernie4_5",
            norm: NormKind::Rms("Ernie4_5RMSNorm"),
            ..LLAMA
        };
        switches.interleaved = true;
        let bias = keys.flag("use_bias")?;
        (switches.qkv_bias, switches.output_bias, switches.mlp_bias) = (bias, bias, bias);
        switches.attention_dropout = 0.0;
        Ok(())
    },
    ..Family::PLAIN
};
