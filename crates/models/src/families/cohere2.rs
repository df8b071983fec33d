//! Command R7B.

use crate::dense::layout::{BlockPart, LLAMA, Layout};
use crate::dense::{Family, Switches};
use crate::parts::NormKind;

/// `model_type = "cohere2"`: attention and feed-forward network in parallel after one norm; rotary
/// positions, which rotate neighbouring values, only in layers with a window.
pub const FAMILY: Family = Family {
    model_type: "cohere2",
    defaults: r#"{
        "vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
        "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 8192,
        "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "sliding_window": 4096,
        "sliding_window_pattern": 4, "tie_word_embeddings": true, "pad_token_id": 0,
        "eos_token_id": 255001
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Cohere2",
            norm: NormKind::LayerWithoutBias("Cohere2LayerNorm"),
            block: &[
                ("self_attn", BlockPart::Attention),
                ("mlp", BlockPart::Mlp),
                ("input_layernorm", BlockPart::BeforeAttention),
            ],
            ..LLAMA
        };
        switches.parallel = true;
        switches.interleaved = true;
        switches.logit_scale = keys.number_or("logit_scale", 0.0625)?;
        let pattern = keys.size("sliding_window_pattern")?;
        switches.slide(keys, Switches::all_but_every(pattern))?;
        let layers = switches.layers.iter_mut();
        layers.for_each(|layer| layer.rope = layer.window.map(|_| 0));
        Ok(())
    },
    ..Family::PLAIN
};
