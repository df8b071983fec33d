//! Writing rotary positions to a file.

use std::f64::consts::TAU;

use super::keys::Keys;
use super::plan::refused;
use super::value::KeyValue;
use crate::dense::Switches;
use crate::error::Result;
use crate::gguf::rope::llama3;
use crate::parts::{Rope, Scaling};

/// The architectures for which llama.cpp reads a tensor of numbers that frequencies are divided by.
const FACTORS: [&str; 6] = [
    "llama", "granite", "arcee", "apertus", "exaone4", "mistral3",
];
/// And those with two such tensors, for short and long texts.
const LONG: [&str; 2] = ["llama", "phi3"];

/// Adds the keys, and the tensors of factors.
pub(super) fn keys(keys: &mut Keys, switches: &Switches) -> Result<()> {
    let (name, rope) = (keys.of.name, &switches.ropes[0]);
    let theta = match rope.scaling {
        // The base is scaled once and for all.
        Scaling::Alpha { alpha } => {
            let dim = rope.dim as f64;
            rope.theta * alpha.powf(dim / (dim - 2.0))
        }
        _ => rope.theta,
    };
    keys.number("rope.freq_base", theta);
    if let Some(local) = switches.ropes.get(1) {
        keys.number("rope.freq_base_swa", local.theta);
    }
    if !name.starts_with("gemma") {
        keys.size("rope.dimension_count", rope.dim)?;
    }
    match &rope.scaling {
        Scaling::None | Scaling::Alpha { .. } => {}
        Scaling::Linear { factor } => {
            scaling(keys, "linear");
            keys.number("rope.scaling.factor", *factor);
        }
        Scaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original,
            ..
        } => {
            scaling(keys, "yarn");
            keys.number("rope.scaling.factor", *factor);
            keys.size("rope.scaling.original_context_length", *original as usize)?;
            keys.number("rope.scaling.yarn_beta_fast", *beta_fast);
            keys.number("rope.scaling.yarn_beta_slow", *beta_slow);
            let usual = 1.0 + 0.1 * factor.max(1.0).ln();
            if name == "mistral3" && rope.attention_factor == 1.0 {
                // As if the whole head were of one kind: it is divided by itself.
                keys.number("rope.scaling.yarn_log_multiplier", 1.0);
            } else if (rope.attention_factor - usual).abs() > 1e-6 * usual {
                keys.number("rope.scaling.attn_factor", rope.attention_factor / usual);
            }
        }
        Scaling::Llama3 { .. } if FACTORS.contains(&name) => {
            let factors = stretched(rope);
            keys.constants.push(("rope_freqs.weight".into(), factors));
        }
        // As for files whose factors are not known to be `llama3`'s.
        Scaling::LongRope { short, long, .. }
            if FACTORS.contains(&name) && short == long && rope.attention_factor == 1.0 =>
        {
            keys.constants
                .push(("rope_freqs.weight".into(), long.clone()));
        }
        Scaling::LongRope {
            short,
            long,
            original,
        } if LONG.contains(&name) => {
            if name != "phi3" {
                scaling(keys, "longrope");
            }
            keys.size("rope.scaling.original_context_length", *original)?;
            keys.number("rope.scaling.attn_factor", rope.attention_factor);
            for (kind, factors) in [("long", long), ("short", short)] {
                let name = format!("rope_factors_{kind}.weight");
                keys.constants.push((name, factors.clone()));
            }
        }
        other => {
            let kind = match other {
                Scaling::Llama3 { .. } => "llama3",
                Scaling::LongRope { .. } => "longrope",
                _ => "dynamic",
            };
            return Err(refused(format!(
                "rope_type = {kind:?} cannot be expressed in a GGUF file of architecture {name:?}"
            )));
        }
    }
    Ok(())
}

fn scaling(keys: &mut Keys, kind: &str) {
    keys.add("rope.scaling.type", KeyValue::Text(kind.into()));
}

/// The number that `llama3` divides each frequency by.
fn stretched(rope: &Rope) -> Vec<f32> {
    let Scaling::Llama3 {
        factor,
        low,
        high,
        original,
    } = rope.scaling
    else {
        return Vec::new();
    };
    let factors = (0..rope.dim / 2).map(|index| {
        let wave = TAU * rope.theta.powf(2.0 * index as f64 / rope.dim as f64);
        llama3(wave, factor, [low, high], original)
    });
    factors.map(|factor| factor as f32).collect()
}
