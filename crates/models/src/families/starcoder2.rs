//! StarCoder2.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout, MlpPart};
use crate::parts::NormKind;

/// `model_type = "starcoder2"`: LayerNorm, biases, no gate.
pub const FAMILY: Family = Family {
    model_type: "starcoder2",
    defaults: r#"{
        "vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
        "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
        "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 4096,
        "initializer_range": 0.018042, "norm_epsilon": 1e-5, "use_bias": true,
        "tie_word_embeddings": true, "eos_token_id": 50256
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Starcoder2",
            norm: NormKind::Layer,
            mlp: &[
                ("c_fc", MlpPart::Up),
                ("c_proj", MlpPart::Down),
                ("act", MlpPart::Activation),
            ],
            ..LLAMA
        };
        let bias = keys.flag("use_bias")?;
        (switches.qkv_bias, switches.output_bias, switches.mlp_bias) = (bias, bias, bias);
        switches.embedding_dropout = keys.dropout("embedding_dropout")?;
        switches.output_dropout = keys.dropout("residual_dropout")?;
        switches.mlp_dropout = switches.output_dropout;
        switches.slide_all(keys)
    },
    ..Family::PLAIN
};
