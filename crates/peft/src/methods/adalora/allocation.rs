//! Which singular values AdaLoRA keeps (section 3.2 of the paper, and `RankAllocator` of
//! peft/tuners/adalora/layer.py).

use burn::tensor::{Tensor, TensorData};
use indexmap::IndexMap;

use super::{AdaLoraConfig, pattern_key};
use crate::StepLayer;

/// A trained tensor and its two averages: the smoothed sensitivity and the smoothed uncertainty
/// of every value.
pub(super) const AVERAGES: [[&str; 3]; 3] = [
    ["lora_A", "lora_A.sensitivity", "lora_A.uncertainty"],
    ["lora_E", "lora_E.sensitivity", "lora_E.uncertainty"],
    ["lora_B", "lora_B.sensitivity", "lora_B.uncertainty"],
];

/// What to do after optimizer step `step` (counted from 1): update the averages and, if it changes,
/// the pattern of the remaining values.
pub(super) fn after_step(
    config: &AdaLoraConfig,
    step: usize,
    layers: &mut [StepLayer<'_>],
) -> Option<IndexMap<String, Vec<bool>>> {
    let last = config.total_step? - config.tfinal;
    if step > last {
        for layer in layers {
            if let Some(left) = config.left(layer.path()) {
                mask(layer, left);
            }
        }
        return None;
    }
    if step < last {
        for layer in layers.iter_mut() {
            update_averages(config, layer);
        }
    }
    let budget = budget(config, step, layers)?;
    Some(allocate(layers, budget))
}

/// The number of values to keep in all layers after a step that removes some: it falls with the
/// cube of the remaining steps.
fn budget(config: &AdaLoraConfig, step: usize, layers: &[StepLayer<'_>]) -> Option<usize> {
    let (tinit, last) = (config.tinit, config.total_step? - config.tfinal);
    let first = layers.iter().map(rank).sum::<usize>() as f64;
    let target = (config.target_r * layers.len()) as f64;
    if step <= tinit || (step != last && !step.is_multiple_of(config.delta_t)) {
        return None;
    }
    let left = 1.0 - (step - tinit) as f64 / (last - tinit) as f64;
    Some(((first - target) * left.powi(3) + target) as usize)
}

fn rank(layer: &StepLayer<'_>) -> usize {
    layer.dims("lora_E")[0]
}

/// `I = |p ∂p|`, `S = β₁ S + (1 - β₁) I` and `U = β₂ U + (1 - β₂) |I - S|` of every value `p`.
fn update_averages(config: &AdaLoraConfig, layer: &mut StepLayer<'_>) {
    for [name, sensitivity, uncertainty] in AVERAGES {
        let Some(gradient) = layer.gradient(name) else {
            continue;
        };
        let importance = (layer.values(name) * gradient).abs();
        let (old, new) = (config.beta1, 1.0 - config.beta1);
        let smooth = layer.values(sensitivity) * old + importance.clone() * new;
        let (old, new) = (config.beta2, 1.0 - config.beta2);
        let distance = (importance - smooth.clone()).abs();
        let unsure = layer.values(uncertainty) * old + distance * new;
        layer.set_values(sensitivity, smooth);
        layer.set_values(uncertainty, unsure);
    }
}

/// The score of each singular value, `[r]`: `S U` of itself plus the means over its vectors.
fn scores(layer: &StepLayer<'_>) -> Tensor<1> {
    let score = |[name, sensitivity, uncertainty]: [&str; 3]| {
        let shape: [usize; 2] = layer.dims(name).try_into().expect("a matrix");
        (layer.values(sensitivity) * layer.values(uncertainty)).reshape(shape)
    };
    let [of_a, of_e, of_b] = AVERAGES.map(score);
    let r = of_e.dims()[0];
    let of_e: Tensor<1> = of_e.reshape([r]);
    let of_a: Tensor<1> = of_a.mean_dim(1).reshape([r]);
    let of_b: Tensor<1> = of_b.mean_dim(0).reshape([r]);
    of_e + of_a + of_b
}

/// Sets all values to zero except about `budget` with the highest scores; returns those that
/// remain, by layer. Values with equal scores are all removed, as in PEFT.
fn allocate(layers: &mut [StepLayer<'_>], budget: usize) -> IndexMap<String, Vec<bool>> {
    let scores: Vec<_> = layers.iter().map(|layer| scores(layer)).collect();
    let scores: Vec<f32> = Tensor::cat(scores, 0).into_data().iter::<f32>().collect();
    let mut sorted = scores.clone();
    sorted.sort_by(f32::total_cmp);
    let given_up = sorted.len().saturating_sub(budget);
    let threshold = match given_up {
        0 => f32::NEG_INFINITY,
        count => sorted[count - 1],
    };
    let mut scores = scores.into_iter();
    let mut pattern = IndexMap::new();
    for layer in layers {
        let left: Vec<bool> = (scores.by_ref().take(rank(layer)))
            .map(|score| score > threshold)
            .collect();
        mask(layer, &left);
        pattern.insert(pattern_key(layer.path()), left);
    }
    pattern
}

/// Sets the removed values to zero.
fn mask(layer: &mut StepLayer<'_>, left: &[bool]) {
    // An adapter loaded from a file has only the remaining ones.
    if left.len() != rank(layer) {
        return;
    }
    let values = layer.values("lora_E");
    let factors: Vec<f32> = left.iter().map(|&left| f32::from(u8::from(left))).collect();
    let factors = TensorData::new(factors, [left.len()]);
    let factors = Tensor::<1>::from_data(factors, &values.device());
    layer.set_values("lora_E", values * factors);
}
