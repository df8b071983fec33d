//! Reading rotary positions from a file.

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

use super::architecture::{Architecture, Changes};
use super::config::Keys;
use crate::error::Result;

/// The default base of the wavelengths, as in llama.cpp.
const THETA: f64 = 10_000.0;

/// The `rope_parameters` of a `config.json`, and the keys beside them.
pub(super) fn parameters(keys: &Keys, of: &Architecture) -> Result<Value> {
    let theta = keys.number("rope.freq_base")?.unwrap_or(THETA);
    let head_dim = keys.head_dim()?;
    let turned = keys.whole("rope.dimension_count")?.unwrap_or(head_dim);
    if turned != head_dim && of.changes == Changes::Interleaved {
        return Err(keys.file.error(format!(
            "{}.rope.dimension_count = {turned}, and heads are {head_dim} wide: partly rotated heads \
             are not supported for \"{}\"",
            of.name, of.name
        )));
    }
    let mut rope = Map::new();
    rope.insert("rope_theta".into(), json!(theta));
    if turned != head_dim && head_dim > 0 {
        let share = turned as f64 / head_dim as f64;
        rope.insert("partial_rotary_factor".into(), json!(share));
    }
    let mut beside = json!({});
    let long = factors(keys, "rope_factors_long.weight")?;
    let short = factors(keys, "rope_factors_short.weight")?;
    if let Some(factors) = factors(keys, "rope_freqs.weight")? {
        rope.extend(stretched(keys, theta, turned, factors)?);
    } else if let (Some(long), Some(short)) = (long, short) {
        let original = keys.size("rope.scaling.original_context_length")?;
        beside = json!({"original_max_position_embeddings": original});
        rope.insert("rope_type".into(), "longrope".into());
        rope.insert("long_factor".into(), json!(long));
        rope.insert("short_factor".into(), json!(short));
        if let Some(factor) = keys.number("rope.scaling.attn_factor")? {
            rope.insert("attention_factor".into(), json!(factor));
        }
    } else {
        rope.extend(scaled(keys)?);
    }
    if let Some(beta) = keys.number("attention.temperature_scale")? {
        rope.insert("llama_4_scaling_beta".into(), json!(beta));
    }
    let mut rope = Value::Object(rope);
    let local = keys.number("rope.freq_base_swa")?;
    let local = match of.name {
        "gemma3" => Some(local.unwrap_or(THETA)),
        "olmo2" if keys.window()?.is_some() => Some(local.unwrap_or(theta)),
        _ => None,
    };
    if let Some(local) = local {
        let local = json!({"rope_type": "default", "rope_theta": local});
        rope = json!({"full_attention": rope, "sliding_attention": local});
    }
    beside["rope_parameters"] = rope;
    Ok(beside)
}

/// `rope.scaling.*`.
fn scaled(keys: &Keys) -> Result<Map<String, Value>> {
    let mut rope = Map::new();
    let kind = keys.text("rope.scaling.type")?.unwrap_or("none");
    let factor = keys.number("rope.scaling.factor")?;
    match kind {
        "none" | "longrope" => {
            rope.insert("rope_type".into(), "default".into());
        }
        "linear" | "yarn" => {
            rope.insert("rope_type".into(), kind.into());
            rope.insert("factor".into(), json!(factor.unwrap_or(1.0)));
            if let Some(original) = keys.whole("rope.scaling.original_context_length")? {
                rope.insert("original_max_position_embeddings".into(), json!(original));
            }
            for key in ["beta_fast", "beta_slow"] {
                if let Some(beta) = keys.number(&format!("rope.scaling.yarn_{key}"))? {
                    rope.insert(key.into(), json!(beta));
                }
            }
            if let Some(all) = keys.number("rope.scaling.yarn_log_multiplier")? {
                rope.insert("mscale".into(), json!(1.0));
                rope.insert("mscale_all_dim".into(), json!(all));
            }
            // llama.cpp multiplies the usual attention factor by it.
            if let Some(times) = keys.number("rope.scaling.attn_factor")? {
                let usual = 1.0 + 0.1 * factor.unwrap_or(1.0).max(1.0).ln();
                rope.insert("attention_factor".into(), json!(times * usual));
            }
        }
        other => {
            return Err(keys.file.error(format!(
                "{}.rope.scaling.type = {other:?} is not supported; supported: \"none\", \"linear\", \
                 \"yarn\", \"longrope\"",
                keys.prefix
            )));
        }
    }
    Ok(rope)
}

/// A tensor of numbers that frequencies are divided by.
fn factors(keys: &Keys, tensor: &str) -> Result<Option<Vec<f64>>> {
    if !keys.file.tensors.contains_key(tensor) {
        return Ok(None);
    }
    let values = keys.file.values(tensor)?;
    // As decimals, because they are single-precision numbers.
    let decimal = |value: &f32| value.to_string().parse().unwrap_or(f64::NAN);
    let values: Vec<f64> = values.iter().map(decimal).collect();
    if values.iter().all(|value| value.is_finite()) {
        Ok(Some(values))
    } else {
        Err(keys.file.error(format!(
            "tensor {tensor} holds a value that is not a number"
        )))
    }
}

/// The number that `llama3` divides the frequency of a wave of this many positions by.
pub(super) fn llama3(wave: f64, factor: f64, [low, high]: [f64; 2], original: f64) -> f64 {
    if wave < original / high {
        1.0
    } else if wave > original / low {
        factor
    } else {
        let smooth = (original / wave - low) / (high - low);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}

/// `rope_freqs`: in all published files the factors of `llama3`, whose parameters are not in the
/// file; other factors are kept as they are.
fn stretched(
    keys: &Keys,
    theta: f64,
    turned: u64,
    factors: Vec<f64>,
) -> Result<Map<String, Value>> {
    let factor = factors.iter().copied().fold(1.0, f64::max);
    let (low, high, original) = (1.0, 4.0, 8192.0);
    let is_llama3 = factors.iter().enumerate().all(|(index, &found)| {
        let wave = TAU * theta.powf(2.0 * index as f64 / turned as f64);
        let expected = llama3(wave, factor, [low, high], original);
        (expected - found).abs() < 1e-5 * expected
    });
    let rope = if is_llama3 {
        json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": original as u64,
        })
    } else {
        json!({
            "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
            "attention_factor": 1.0, "factor": 1.0,
            "original_max_position_embeddings": keys.size("context_length")?,
        })
    };
    match rope {
        Value::Object(rope) => Ok(rope),
        _ => unreachable!("it was made as an object"),
    }
}
