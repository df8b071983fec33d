//! Llama 2 to 3.2, SmolLM2, TinyLlama and what else has their architecture.

use crate::dense::Family;

/// `model_type = "llama"`.
pub const FAMILY: Family = Family {
    model_type: "llama",
    defaults: r#"{
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "eos_token_id": 2
    }"#,
    switches: |_, _| Ok(()),
    presets: &[],
};
