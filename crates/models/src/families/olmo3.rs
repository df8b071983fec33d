//! OLMo 3.

use crate::dense::layout::{LLAMA, Layout, NORMED_ATTENTION, NORMS_AFTER};
use crate::dense::{Family, ROPE_KEYS, RopeKeys, Switches};
use crate::parts::NormKind;

/// `model_type = "olmo3"`: OLMo 2 with windows; layers without a window have scaled rotary
/// positions.
pub const FAMILY: Family = Family {
    model_type: "olmo3",
    defaults: r#"{
        "vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "sliding_window": 4096, "rope_theta": 500000.0, "pad_token_id": 1,
        "eos_token_id": 50279
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Olmo3",
            norm: NormKind::Rms("Olmo3RMSNorm"),
            block: NORMS_AFTER,
            attention: NORMED_ATTENTION,
            ..LLAMA
        };
        switches.norm_all_heads = true;
        switches.slide(keys, Switches::all_but_every(4))?;
        let sliding = RopeKeys {
            scaled: false,
            ..ROPE_KEYS
        };
        switches.turn_windows_by(keys, sliding)
    },
    ..Family::PLAIN
};
