//! EXAONE 4.

use serde_json::Value;

use crate::dense::layout::{LLAMA, Layout, NORMED_ATTENTION, NORMS_AFTER};
use crate::dense::{Family, Switches};
use crate::parts::NormKind;

/// `model_type = "exaone4"`: norms after the parts, and norms of each head's queries and keys. If
/// some layers have a window, those without one have no rotary positions.
pub const FAMILY: Family = Family {
    model_type: "exaone4",
    defaults: r#"{
        "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096,
        "sliding_window_pattern": 4, "eos_token_id": 2
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Exaone4",
            norm: NormKind::Rms("Exaone4RMSNorm"),
            block: NORMS_AFTER,
            attention: NORMED_ATTENTION,
            ..LLAMA
        };
        // The 32B's file says "LLLG": a window in all but every fourth layer.
        let pattern = match keys.get("sliding_window_pattern") {
            Some(Value::String(pattern)) => pattern.len().max(1),
            _ => keys.size_if("sliding_window_pattern")?.unwrap_or(4),
        };
        switches.slide(keys, Switches::all_but_every(pattern))?;
        if keys.size_if("sliding_window")?.is_some() {
            let layers = switches.layers.iter_mut();
            layers.for_each(|layer| layer.rope = layer.window.map(|_| 0));
        }
        Ok(())
    },
    ..Family::PLAIN
};
