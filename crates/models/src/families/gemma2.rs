//! Gemma 2.

use super::gemma::common;
use crate::dense::layout::{LLAMA, Layout, NORMS_AROUND};
use crate::dense::{Family, Keys, Switches};
use crate::parts::NormKind;

/// `model_type = "gemma2"`: four norms a block, soft caps of scores and logits, windows in every
/// other layer.
pub const FAMILY: Family = Family {
    model_type: "gemma2",
    defaults: r#"{
        "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "pad_token_id": 0, "eos_token_id": 1
    }"#,
    switches: |keys, switches| {
        switches.layout = Layout {
            class: "Gemma2",
            norm: NormKind::RmsAroundOne("Gemma2RMSNorm"),
            embedding_class: "Gemma2TextScaledWordEmbedding",
            block: NORMS_AROUND,
            ..LLAMA
        };
        scores(keys, switches)?;
        switches.slide(keys, Switches::all_but_every(2))
    },
    ..Family::PLAIN
};

/// Scale and soft caps, which later Gemma models have too.
pub(super) fn scores(keys: &Keys, switches: &mut Switches) -> Result<(), String> {
    let scalar = keys.number_or("query_pre_attn_scalar", 256.0)?;
    if scalar <= 0.0 {
        return Err(format!("query_pre_attn_scalar = {scalar} is not above 0"));
    }
    switches.score_scale = 1.0 / scalar.sqrt();
    switches.score_cap = cap(keys, "attn_logit_softcapping")?;
    switches.logit_cap = cap(keys, "final_logit_softcapping")?;
    common(keys, switches)
}

/// A soft cap, which has to be a number in 32 bits together with its inverse.
fn cap(keys: &Keys, key: &str) -> Result<Option<f64>, String> {
    let cap = keys.number_if(key)?;
    match cap.filter(|&cap| cap <= 0.0 || !(cap as f32).is_normal()) {
        Some(cap) => Err(format!(
            "{key} = {cap:?} is not above 0 and finite in 32 bits; set it to null to have no cap"
        )),
        None => Ok(cap),
    }
}
