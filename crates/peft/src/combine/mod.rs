//! Several LoRA (or (IA)³) adapters as one: PEFT's `add_weighted_adapter`, on adapters in a model or on their
//! files alone.

mod arithmetic;
mod config;
mod ia3;
mod options;

use std::path::Path;

use burn::tensor::TensorData;
use indexmap::IndexMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use options::{Combination, CombinationType, MajoritySign};

use crate::config::Fields;
use crate::files::{PREFIX, WEIGHTS_NAME, read_config};
use crate::svd::svd;
use crate::tensor_file::read_tensors;
use crate::{BaseModel, LoraConfig, Method, PeftError, PeftModel, Result};

use arithmetic::{Mask, sum};

/// A LoRA adapter and its weight in a combination.
#[derive(Clone, Debug)]
pub struct WeightedAdapter {
    /// What errors call it.
    pub name: String,
    /// Its configuration.
    pub config: LoraConfig,
    /// Its tensors, by their keys in the file.
    pub tensors: IndexMap<String, TensorData>,
    /// Its weight; negative ones take its effect away.
    pub weight: f64,
}

impl WeightedAdapter {
    /// An adapter's folder.
    ///
    /// # Errors
    /// If the folder holds no LoRA adapter or a file is broken.
    pub fn read(directory: &Path, weight: f64) -> Result<Self> {
        let tensors = read_tensors(&directory.join(WEIGHTS_NAME))?;
        let name = directory.display().to_string();
        Self::new(name, read_config(directory)?.as_ref(), tensors, weight)
    }

    fn new(
        name: String,
        config: &dyn Method,
        tensors: IndexMap<String, TensorData>,
        weight: f64,
    ) -> Result<Self> {
        let fields = Fields::new(config.to_json(), &name);
        let config = LoraConfig::from_fields(fields).map_err(|error| {
            PeftError::Adapter(format!("only LoRA adapters can be combined: {error}"))
        })?;
        Ok(Self {
            name,
            config,
            tensors,
            weight,
        })
    }
}

impl<M: BaseModel> PeftModel<M> {
    /// Adds an adapter that combines others of the model, LoRA's, or (IA)³'s by their weighted
    /// sum; it is not active yet.
    ///
    /// # Errors
    /// As [`combine`]; if there is no adapter of one of the names or already one of the new name.
    /// The model is as before.
    pub fn add_weighted_adapter(
        &mut self,
        adapters: &[(&str, f64)],
        adapter_name: &str,
        combination: &Combination,
    ) -> Result<()> {
        let mut kinds = Vec::new();
        for (name, _) in adapters {
            kinds.push(self.config(name)?.peft_type());
        }
        if !kinds.is_empty() && kinds.iter().all(|kind| *kind == "IA3") {
            return ia3::add(self, adapters, adapter_name, combination);
        }
        let mut parts = Vec::new();
        for &(name, weight) in adapters {
            let config = self.config(name)?;
            let tensors = self.adapter_state_dict(name).into_iter().collect();
            let part = WeightedAdapter::new(name.into(), config.as_ref(), tensors, weight)?;
            parts.push(part);
        }
        let (config, tensors) = combine(&parts, combination)?;
        self.add_adapter(adapter_name, std::sync::Arc::new(config))?;
        let tensors = tensors.into_iter().collect();
        let loaded = self.load_state_dict(adapter_name, tensors, Path::new(adapter_name));
        if loaded.is_err() {
            self.delete_adapter(adapter_name)?;
        }
        loaded
    }
}

/// One LoRA adapter from several: its configuration (α = r, so its scaling is 1) and its tensors by
/// their keys in the file, in the order of the keys.
///
/// As PEFT 0.21.2 computes it, with two differences where PEFT's result is none of the adapters'
/// sums: rsLoRA is switched off in the result, whose tensors hold the scaling already, and
/// a layer of smaller rank than the others is filled up with zeros.
///
/// # Errors
/// If there is no adapter, the adapters do not fit each other (ranks, shapes, the way they choose
/// layers), hold more than LoRA's factors (`modules_to_save`, biases), or if an option of the
/// combination is missing or out of range.
pub fn combine(
    adapters: &[WeightedAdapter],
    combination: &Combination,
) -> Result<(LoraConfig, Vec<(String, TensorData)>)> {
    let mut random = ChaCha8Rng::seed_from_u64(combination.seed);
    combine_with(adapters, combination, &mut |length, density| {
        (0..length).map(|_| random.random_bool(density)).collect()
    })
}

/// As [`combine`]; `mask` says what DARE keeps.
fn combine_with(
    adapters: &[WeightedAdapter],
    combination: &Combination,
    mask: Mask<'_>,
) -> Result<(LoraConfig, Vec<(String, TensorData)>)> {
    let mut combination = combination.clone();
    if adapters.len() == 1 {
        // As in PEFT: of one adapter only the weight matters.
        combination = Combination::new(CombinationType::Linear);
    }
    combination.validate()?;
    if let Some(part) = adapters.iter().find(|part| !part.weight.is_finite()) {
        return Err(PeftError::Adapter(format!(
            "{}: the weight {} is not finite",
            part.name, part.weight
        )));
    }
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
            return Err(PeftError::Adapter(format!(
                "the adapters are of different models: at {path}, {} goes from {} to {} features \
                 and {} from {} to {}",
                first.adapter, first.d_in, first.d_out, other.adapter, other.d_in, other.d_out
            )));
        }
        let (a, b) = combined_factors(path, parts, &combination, config.r, mask)?;
        let keys = first.keys.map(|end| format!("{PREFIX}{path}.{end}"));
        let shapes = [[config.r, first.d_in], [first.d_out, config.r]];
        for ((key, values), shape) in keys.into_iter().zip([a, b]).zip(shapes) {
            tensors.push((key, TensorData::new(values, shape)));
        }
    }
    Ok((config, tensors))
}

/// The factors of one adapter at one layer: `scaling · B A`, `A` `[r, d_in]`, `B` `[d_out, r]`.
struct Factors {
    adapter: String,
    /// What their keys end with.
    keys: [&'static str; 2],
    a: Vec<f32>,
    b: Vec<f32>,
    d_in: usize,
    d_out: usize,
    r: usize,
    scaling: f64,
    weight: f64,
}

impl Factors {
    fn fits(&self, other: &Self) -> bool {
        (self.keys, self.d_in, self.d_out) == (other.keys, other.d_in, other.d_out)
    }

    /// The change of the weight, `[d_out, d_in]`.
    fn delta(&self) -> Vec<f32> {
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

const KEYS: [[&str; 2]; 2] = [
    ["lora_A.weight", "lora_B.weight"],
    ["lora_embedding_A", "lora_embedding_B"],
];

/// The factors of every layer of an adapter, by the layer's path.
fn factors_of(part: &WeightedAdapter) -> Result<Vec<(&str, Factors)>> {
    let name = &part.name;
    let refuse = |reason: String| Err(PeftError::Adapter(format!("{name} {reason}")));
    let mut found = Vec::new();
    for (key, a) in &part.tensors {
        let path = key.strip_prefix(PREFIX).unwrap_or(key);
        let ends = |index: usize| {
            let mut keys = KEYS.iter();
            keys.find_map(|keys| Some((path.strip_suffix(keys[index])?.strip_suffix('.')?, keys)))
        };
        if ends(1).is_some() {
            continue;
        }
        let Some((path, keys)) = ends(0) else {
            return refuse(format!(
                "holds {key}, which is no factor of LoRA and cannot be combined"
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
            r,
            scaling: part.config.scaling(path)?,
            weight: part.weight,
        };
        found.push((path, factors));
    }
    match found.is_empty() {
        true => refuse("holds no tensor".into()),
        false => Ok(found),
    }
}

fn dims(data: &TensorData) -> [usize; 2] {
    data.shape().to_vec().try_into().unwrap_or_default()
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
        // One behind the other: the sum is exact.
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
        return Err(PeftError::Adapter(format!(
            "at {path}, {} has rank {rank} and {} rank {}: combine them with cat, svd or a type \
             that ends with _svd",
            parts[0].adapter, other.adapter, other.r
        )));
    }
    // The root of the weight on either side, the sign on one.
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
/// `[d_out, r]`, and all singular values. Of a smaller matrix the last rows of `A` are zero.
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

#[cfg(test)]
mod tests;
