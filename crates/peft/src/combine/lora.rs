//! Combining LoRA adapters into one, by sums of their factors or of their effects.

use burn::tensor::TensorData;
use indexmap::IndexMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::arithmetic::{Mask, sum};
use super::{Combination, CombinationType, Combined, WeightedAdapter, config};
use crate::files::PREFIX;
use crate::maths::svd::svd;
use crate::methods::lora::FACTORS;
use crate::{LoraConfig, PeftError, Result};

pub(super) type Lora = WeightedAdapter<LoraConfig>;

/// Computes what PEFT 0.21.2 computes, with two exceptions in which PEFT's result is not a sum of
/// the adapters: rsLoRA is switched off in the result, whose tensors already include the scaling,
/// and a layer of smaller rank than the others is padded with zeros.
///
/// # Errors
/// If the adapters do not fit each other (ranks, shapes, the way they choose layers), hold more
/// than LoRA's factors (`modules_to_save`, biases), or if an option of the combination is missing
/// or out of range.
pub(super) fn combine(adapters: &[Lora], combination: &Combination) -> Result<Combined> {
    let mut random = ChaCha8Rng::seed_from_u64(combination.seed);
    let (config, tensors) = combine_with(adapters, combination, &mut |length, density| {
        (0..length).map(|_| random.random_bool(density)).collect()
    })?;
    Ok(Combined {
        layers: tensors.len() / 2,
        config: std::sync::Arc::new(config),
        tensors,
    })
}

/// Like [`combine`]; `mask` selects the values that DARE keeps.
pub(super) fn combine_with(
    adapters: &[Lora],
    combination: &Combination,
    mask: Mask<'_>,
) -> Result<(LoraConfig, Vec<(String, TensorData)>)> {
    let mut combination = combination.clone();
    if adapters.len() == 1 {
        // As in PEFT: with a single adapter only the weight matters.
        combination = Combination::new(CombinationType::Linear);
    }
    combination.validate()?;
    let config = config::combined(adapters, &combination)?;
    let mut layers: IndexMap<&str, Vec<Factors>> = IndexMap::new();
    for part in adapters {
        for (path, factors) in factors_of(part)? {
            layers.entry(path).or_default().push(factors);
        }
    }
    layers.sort_keys();
    let mut tensors = Vec::new();
    for (path, parts) in &layers {
        let first = &parts[0];
        if let Some(other) = parts.iter().find(|other| !other.fits(first)) {
            return Err(PeftError::not_combinable(format!(
                "the adapters are of different models: at {path}, {} goes from {} to {} features \
                 and {} from {} to {}",
                first.adapter, first.d_in, first.d_out, other.adapter, other.d_in, other.d_out
            )));
        }
        let (a, b) = combined_factors(path, parts, &combination, config.r, mask)?;
        let keys = first.keys.map(|end| format!("{PREFIX}{path}.{end}"));
        let shapes = first.shapes(config.r);
        for ((key, values), shape) in keys.into_iter().zip([a, b]).zip(shapes) {
            tensors.push((key, TensorData::new(values, shape)));
        }
    }
    Ok((config, tensors))
}

/// The factors of one adapter at one layer: `scaling · B A`, `A` `[r, d_in]`, `B` `[d_out, r]`.
pub(super) struct Factors {
    adapter: String,
    /// The ends of their keys.
    keys: [&'static str; 2],
    pub(super) a: Vec<f32>,
    pub(super) b: Vec<f32>,
    d_in: usize,
    d_out: usize,
    /// The shape of `A` without the rank; for a convolution it includes the kernel.
    columns: Vec<usize>,
    r: usize,
    scaling: f64,
    weight: f64,
}

impl Factors {
    /// The shapes of `A` and `B` for this rank, as in the file.
    fn shapes(&self, r: usize) -> [Vec<usize>; 2] {
        let mut b = vec![1; self.columns.len() + 1];
        b[..2].copy_from_slice(&[self.d_out, r]);
        [[&[r], self.columns.as_slice()].concat(), b]
    }

    fn fits(&self, other: &Self) -> bool {
        (self.keys, &self.columns, self.d_out) == (other.keys, &other.columns, other.d_out)
    }

    /// The change of the weight, `[d_out, d_in]`.
    pub(super) fn delta(&self) -> Vec<f32> {
        let mut delta = vec![0.0; self.d_out * self.d_in];
        for (row, of_b) in delta.chunks_mut(self.d_in).zip(self.b.chunks(self.r)) {
            for (b, of_a) in of_b.iter().zip(self.a.chunks(self.d_in)) {
                for (value, a) in row.iter_mut().zip(of_a) {
                    *value += b * a;
                }
            }
        }
        let scaling = self.scaling as f32;
        delta.iter_mut().for_each(|value| *value *= scaling);
        delta
    }
}

/// The factors of every layer of an adapter, by the layer's path.
pub(super) fn factors_of(part: &Lora) -> Result<Vec<(&str, Factors)>> {
    let name = &part.name;
    let refuse = |reason: String| Err(PeftError::not_combinable(format!("{name} {reason}")));
    let mut found = Vec::new();
    for (key, a) in &part.tensors {
        let path = key.strip_prefix(PREFIX).unwrap_or(key);
        let ends = |index: usize| {
            let mut keys = FACTORS.iter();
            keys.find_map(|keys| Some((path.strip_suffix(keys[index])?.strip_suffix('.')?, keys)))
        };
        if ends(1).is_some() {
            continue;
        }
        let Some((path, keys)) = ends(0) else {
            return refuse(format!(
                "holds {key}, which is not a factor of LoRA and cannot be combined"
            ));
        };
        let Some(b) = part.tensors.get(&format!("{PREFIX}{path}.{}", keys[1])) else {
            return refuse(format!("holds {key}, but no {} beside it", keys[1]));
        };
        let ([r, d_in], [d_out, columns]) = (dims(a), dims(b));
        if r != columns || r == 0 {
            return refuse(format!("has factors at {path} of rank {r} and {columns}"));
        }
        let factors = Factors {
            adapter: name.clone(),
            keys: *keys,
            a: values(a),
            b: values(b),
            d_in,
            d_out,
            columns: a.shape()[1..].to_vec(),
            r,
            scaling: part.config.scaling(path)?,
            weight: part.weight,
        };
        found.push((path, factors));
    }
    if found.is_empty() {
        refuse("holds no tensor".into())
    } else {
        Ok(found)
    }
}

/// Rows and columns; for a factor of a convolution, all axes after the first count as columns.
fn dims(data: &TensorData) -> [usize; 2] {
    match data.shape().to_vec().split_first() {
        Some((rows, columns)) if !columns.is_empty() => [*rows, columns.iter().product()],
        _ => [0, 0],
    }
}

fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// `A` `[r, d_in]` and `B` `[d_out, r]` of the combination at one layer.
fn combined_factors(
    path: &str,
    parts: &[Factors],
    combination: &Combination,
    r: usize,
    mask: Mask<'_>,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (d_in, d_out) = (parts[0].d_in, parts[0].d_out);
    let density = combination.density.unwrap_or(1.0);
    let Some((arithmetic, by_svd)) = combination.arithmetic() else {
        // Concatenated, so that the sum is exact.
        let mut a = Vec::with_capacity(r * d_in);
        let mut b = vec![0.0; d_out * r];
        let mut column = 0;
        for part in parts {
            let (weight, scaling) = (part.weight as f32, part.scaling as f32);
            a.extend(part.a.iter().map(|value| value * weight * scaling));
            for (row, values) in part.b.chunks(part.r).enumerate() {
                let start = row * r + column;
                b[start..start + part.r].copy_from_slice(values);
            }
            column += part.r;
        }
        a.resize(r * d_in, 0.0);
        return Ok((a, b));
    };
    if by_svd {
        let weights: Vec<f32> = parts.iter().map(|part| part.weight as f32).collect();
        let deltas = parts.iter().map(Factors::delta).collect();
        let delta = sum(arithmetic, deltas, &weights, density, mask);
        return low_rank(&delta, d_out, d_in, r).map(|(a, b, _)| (a, b));
    }
    let rank = parts[0].r;
    if let Some(other) = parts.iter().find(|other| other.r != rank) {
        return Err(PeftError::not_combinable(format!(
            "at {path}, {} has rank {rank} and {} rank {}: combine them with cat, svd or a type \
             that ends with _svd",
            parts[0].adapter, other.adapter, other.r
        )));
    }
    // The square root of the weight goes on both sides, the sign on one.
    let weighted: Vec<f64> = parts
        .iter()
        .map(|part| part.weight * part.scaling)
        .collect();
    let roots: Vec<f32> = weighted.iter().map(|w| w.abs().sqrt() as f32).collect();
    let signed = weighted.iter().zip(&roots);
    let signed: Vec<f32> = signed
        .map(|(w, root)| if *w < 0.0 { -root } else { *root })
        .collect();
    let all = |of: fn(&Factors) -> &Vec<f32>| parts.iter().map(|part| of(part).clone()).collect();
    let mut a = sum(arithmetic, all(|part| &part.a), &signed, density, mask);
    let narrow = sum(arithmetic, all(|part| &part.b), &roots, density, mask);
    a.resize(r * d_in, 0.0);
    let mut b = vec![0.0; d_out * r];
    for (row, values) in b.chunks_mut(r).zip(narrow.chunks(rank)) {
        row[..rank].copy_from_slice(values);
    }
    Ok((a, b))
}

/// The nearest matrix of rank `r`, `B A`, to `delta` `[d_out, d_in]`: `A` `[r, d_in]`, `B`
/// `[d_out, r]`, and all singular values. If the matrix has fewer singular values than `r`, the
/// last rows of `A` are zero.
pub(crate) fn low_rank(
    delta: &[f32],
    d_out: usize,
    d_in: usize,
    r: usize,
) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
    let (u, s, vt) = svd(delta, d_out, d_in)?;
    let k = s.len();
    let mut a = vt;
    a.truncate(r * d_in);
    a.resize(r * d_in, 0.0);
    let mut b = vec![0.0; d_out * r];
    for (row, of_u) in b.chunks_mut(r).zip(u.chunks(k)) {
        for ((value, u), s) in row.iter_mut().zip(of_u).zip(&s) {
            *value = u * s;
        }
    }
    Ok((a, b, s))
}
