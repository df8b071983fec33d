//! Llama 2 to 3.2, SmolLM2, TinyLlama and other models of this architecture.

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
    presets: &[
        (
            "smollm2-135m",
            r#"{
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
                "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_act": "silu",
                "max_position_embeddings": 8192, "initializer_range": 0.041666666666666664,
                "rms_norm_eps": 1e-5, "rope_theta": 100000, "attention_bias": false,
                "mlp_bias": false, "attention_dropout": 0.0, "tie_word_embeddings": true,
                "bos_token_id": 0, "eos_token_id": 0
            }"#,
        ),
        (
            "smollm2-360m",
            r#"{
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
                "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
                "num_attention_heads": 15, "num_key_value_heads": 5, "hidden_act": "silu",
                "max_position_embeddings": 8192, "initializer_range": 0.02,
                "rms_norm_eps": 1e-5, "rope_theta": 100000, "attention_bias": false,
                "mlp_bias": false, "attention_dropout": 0.0, "tie_word_embeddings": true,
                "bos_token_id": 0, "eos_token_id": 0
            }"#,
        ),
        (
            "smollm2-1.7b",
            r#"{
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
                "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
                "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
                "max_position_embeddings": 8192, "initializer_range": 0.02,
                "rms_norm_eps": 1e-5, "rope_theta": 130000, "attention_bias": false,
                "mlp_bias": false, "attention_dropout": 0.0, "tie_word_embeddings": true,
                "bos_token_id": 0, "eos_token_id": 0
            }"#,
        ),
        (
            "llama-3.2-1b",
            r#"{
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
                "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
                "hidden_act": "silu", "max_position_embeddings": 131072,
                "initializer_range": 0.02, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
                "rope_scaling": {
                    "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                    "original_max_position_embeddings": 8192, "rope_type": "llama3"
                },
                "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.0,
                "tie_word_embeddings": true, "bos_token_id": 128000, "eos_token_id": 128001
            }"#,
        ),
    ],
    ..Family::PLAIN
};
