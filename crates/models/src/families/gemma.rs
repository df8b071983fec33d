//! Gemma 1.

use serde_json::Value;

use crate::dense::layout::{LLAMA, Layout};
use crate::dense::{Family, Keys, Switches};
use crate::parts::{Activation, NormKind};

/// `model_type = "gemma"`: norms that multiply by their weight plus one, scaled embeddings.
pub const FAMILY: Family = Family {
    model_type: "gemma",
    defaults: r#"{
        "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16,
        "head_dim": 256, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "pad_token_id": 0, "eos_token_id": 1
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Gemma",
            norm: NormKind::RmsAroundOne("GemmaRMSNorm"),
            embedding_class: "GemmaTextScaledWordEmbedding",
            ..LLAMA
        };
        // The first files say "gelu" but mean its approximation.
        if keys.get("hidden_act") == Some(&Value::from("gelu")) {
            switches.activation = Activation::GeluPytorchTanh;
        }
        common(keys, switches)
    },
    ..Family::PLAIN
};

/// What all Gemma models have in common.
pub(super) fn common(keys: &Keys, switches: &mut Switches) -> Result<(), String> {
    if keys.flag("use_bidirectional_attention")? {
        let problem = "is not supported: only attention to earlier positions";
        return Err(format!("use_bidirectional_attention = true {problem}"));
    }
    switches.embedding_scale = (switches.hidden_size as f64).sqrt();
    Ok(())
}
