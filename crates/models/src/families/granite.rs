//! Granite 3 and 4, the dense models.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "granite"`: factors of embeddings, residuals, scores and logits.
pub const FAMILY: Family = Family {
    model_type: "granite",
    defaults: r#"{
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Granite",
            norm: NormKind::Rms("GraniteRMSNorm"),
            ..LLAMA
        };
        switches.input_scale = keys.number_or("embedding_multiplier", 1.0)?;
        switches.residual_scale = keys.number_or("residual_multiplier", 1.0)?;
        switches.score_scale = keys.number_or("attention_multiplier", 1.0)?;
        match keys.number_or("logits_scaling", 1.0)? {
            0.0 => return Err("logits_scaling = 0 divides by zero".into()),
            scaling => switches.logit_scale = 1.0 / scaling,
        }
        Ok(())
    },
    ..Family::PLAIN
};
