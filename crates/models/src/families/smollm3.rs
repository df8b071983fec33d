//! SmolLM3.

use crate::dense::Family;
use crate::dense::layout::{LLAMA, Layout};
use crate::parts::NormKind;

/// `model_type = "smollm3"`: every fourth layer has no rotary positions.
pub const FAMILY: Family = Family {
    model_type: "smollm3",
    defaults: r#"{
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 2000000.0,
        "no_rope_layer_interval": 4, "tie_word_embeddings": true, "pad_token_id": 128004,
        "eos_token_id": 128001
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "SmolLM3",
            norm: NormKind::Rms("SmolLM3RMSNorm"),
            ..LLAMA
        };
        let interval = keys.size("no_rope_layer_interval")?;
        let given = keys.numbers_if("no_rope_layers")?;
        let layers = switches.layers.len();
        if let Some(given) = given.as_ref().filter(|given| given.len() != layers) {
            let given = given.len();
            return Err(format!(
                "no_rope_layers has {given} entries and num_hidden_layers is {layers}"
            ));
        }
        let turns = |layer: usize| match &given {
            Some(given) => given[layer] != 0.0,
            None => !(layer + 1).is_multiple_of(interval),
        };
        for (index, layer) in switches.layers.iter_mut().enumerate() {
            layer.rope = turns(index).then_some(0);
        }
        if keys.flag("use_sliding_window")? {
            switches.slide(keys, |layer| !turns(layer))
        } else {
            Ok(())
        }
    },
    ..Family::PLAIN
};
