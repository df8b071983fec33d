//! Reads the rotary embedding from a `config.json`: `rope_parameters` as transformers 5 writes it,
//! or `rope_theta` with `rope_scaling` as transformers 4 did.

use serde_json::{Map, Value};

use super::Keys;
use crate::parts::{Rope, Scaling};

type Result<T> = std::result::Result<T, String>;

/// The layer types for which `rope_parameters` may have a table each.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// The keys of a family that describe its rotary embedding.
#[derive(Clone, Copy, Debug)]
pub struct RopeKeys {
    /// The base of the wavelengths, if `rope_parameters` does not give it.
    pub theta: &'static str,
    /// The share of a head that is rotated, if `rope_parameters` does not give it.
    pub share: &'static str,
    /// Whether `rope_scaling` applies to these layers.
    pub scaled: bool,
}

/// The keys of most families.
pub const ROPE_KEYS: RopeKeys = RopeKeys {
    theta: "rope_theta",
    share: "partial_rotary_factor",
    scaled: true,
};

/// The rotary embedding for heads of width `head_dim` in layers of one kind. The kind says which
/// table to read if the file has one for each.
///
/// # Errors
/// If a key has a value of the wrong type or without meaning; if `rope_type` is unknown.
pub fn rope(keys: &Keys, names: RopeKeys, kind: &str, head_dim: usize) -> Result<Rope> {
    let empty = Map::new();
    let old = keys.object_if("rope_scaling")?.filter(|_| names.scaled);
    let given = keys.object_if("rope_parameters")?;
    let nested = match &given {
        Some(given) if KINDS.iter().any(|kind| given.get(kind).is_some()) => {
            Some(given.object_if(kind)?)
        }
        _ => None,
    };
    let new = match &nested {
        Some(own) => own.as_ref(),
        None => given.as_ref(),
    };
    let none = Keys::new(&empty, "{}");
    let table = old.as_ref().or(new).unwrap_or(&none);
    read(keys, table, head_dim, names).map_err(|reason| {
        if table.has("rope_type") && old.is_none() {
            format!("rope_parameters: {reason}")
        } else {
            reason
        }
    })
}

fn read(keys: &Keys, table: &Keys, head_dim: usize, names: RopeKeys) -> Result<Rope> {
    let theta = match table.number_if("rope_theta")? {
        Some(theta) => theta,
        None => keys.number_or(names.theta, 10_000.0)?,
    };
    let share = match table.number_if("partial_rotary_factor")? {
        Some(share) => share,
        None => keys.number_or(names.share, 1.0)?,
    };
    let dim = (head_dim as f64 * share) as usize;
    let dim = dim.saturating_add(dim % 2);
    if dim == 0 || dim > head_dim {
        return Err(format!(
            "{} = {share} of heads {head_dim} wide rotates {dim} values: \
             expected an even number from 2 to {head_dim}",
            names.share
        ));
    }
    if theta <= 1.0 {
        return Err(format!("{} = {theta} is not above 1", names.theta));
    }
    let name = match table.get("rope_type").or_else(|| table.get("type")) {
        None => "default",
        Some(Value::String(name)) => name,
        Some(other) => return Err(format!("rope_type = {other}: expected a text")),
    };
    let max_positions = keys.size("max_position_embeddings")?;
    let original = match keys.size_if("original_max_position_embeddings")? {
        Some(original) => original,
        None => table
            .size_if("original_max_position_embeddings")?
            .unwrap_or(max_positions),
    };
    let factor = || positive(table, "factor");
    let factor_or_ratio = || -> Result<f64> {
        match table.number_if("factor")? {
            Some(_) => factor(),
            None => Ok(max_positions as f64 / original as f64),
        }
    };
    let mut attention_factor = 1.0;
    let scaling = match name {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: factor()? },
        "dynamic" if dim <= 2 => {
            return Err(format!(
                "rope_type = {name:?} needs more than {dim} rotated values"
            ));
        }
        "dynamic" if table.number_if("alpha")?.is_some_and(|alpha| alpha != 0.0) => {
            Scaling::Alpha {
                alpha: positive(table, "alpha")?,
            }
        }
        "dynamic" => Scaling::Dynamic {
            factor: factor()?,
            max_positions,
        },
        "llama3" => Scaling::Llama3 {
            factor: factor()?,
            low: positive(table, "low_freq_factor")?,
            high: positive(table, "high_freq_factor")?,
            original: original as f64,
        },
        "yarn" => {
            let factor = factor_or_ratio()?;
            attention_factor = yarn_attention(table, factor)?;
            Scaling::Yarn {
                factor,
                beta_fast: table.number_or("beta_fast", 32.0)?,
                beta_slow: table.number_or("beta_slow", 1.0)?,
                original: original as f64,
                truncate: table.get("truncate") != Some(&Value::Bool(false)),
            }
        }
        "longrope" | "su" => {
            let factor = factor_or_ratio()?;
            attention_factor = match table.number_if("attention_factor")? {
                Some(given) => given,
                None if factor <= 1.0 => 1.0,
                None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
            };
            Scaling::LongRope {
                short: factors(table, "short_factor", dim)?,
                long: factors(table, "long_factor", dim)?,
                original,
            }
        }
        other => {
            return Err(format!(
                "rope_type = {other:?} is not supported; supported: \"default\", \"linear\", \
                 \"dynamic\", \"llama3\", \"yarn\", \"longrope\", \"su\""
            ));
        }
    };
    Ok(Rope {
        dim,
        theta,
        scaling,
        attention_factor,
    })
}

fn positive(table: &Keys, key: &str) -> Result<f64> {
    match table.number_if(key)? {
        Some(value) if value > 0.0 => Ok(value),
        Some(value) => Err(format!("{key} = {value} is not above 0")),
        None => Err(format!("{key} is missing beside rope_type")),
    }
}

fn yarn_attention(table: &Keys, factor: f64) -> Result<f64> {
    if let Some(given) = table.number_if("attention_factor")? {
        return Ok(given);
    }
    let scale = |mscale: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * mscale * factor.ln() + 1.0
        }
    };
    let mscale = table.number_or("mscale", 0.0)?;
    let all = table.number_or("mscale_all_dim", 0.0)?;
    Ok(if mscale != 0.0 && all != 0.0 {
        scale(mscale) / scale(all)
    } else {
        scale(1.0)
    })
}

fn factors(table: &Keys, key: &str, dim: usize) -> Result<Vec<f32>> {
    let factors = table.numbers_if(key)?.unwrap_or_default();
    if factors.len() != dim / 2 || factors.contains(&0.0) {
        let count = factors.len();
        return Err(format!(
            "{key} has {count} numbers: expected {} that are not 0",
            dim / 2
        ));
    }
    Ok(factors.into_iter().map(|factor| factor as f32).collect())
}
