//! Combining (IA)³ adapters: the weighted sum of their scales.

use std::sync::Arc;

use burn::tensor::TensorData;
use indexmap::IndexMap;

use super::config::{no_copies, united};
use super::{Combination, CombinationType, Combined, WeightedAdapter};
use crate::config::TargetModules;
use crate::methods::{IA3Config, feedforward_pattern};
use crate::{PeftError, Result};

/// `l = Σ w_i l_i` at every layer of any of the adapters (peft/tuners/ia3/model.py,
/// `add_weighted_adapter`).
///
/// # Errors
/// If the adapters do not fit each other, or the combination is not linear.
pub(super) fn combine(
    adapters: &[WeightedAdapter<IA3Config>],
    combination: &Combination,
) -> Result<Combined> {
    let refuse = |reason: String| Err(PeftError::not_combinable(reason));
    let kind = combination.combination_type;
    if kind != CombinationType::Linear {
        return refuse(format!(
            "IA3 adapters are combined by combination_type linear alone: their scales have no \
             factors; got {kind}"
        ));
    }
    combination.validate()?;
    let mut sums: IndexMap<&str, (Vec<f32>, Vec<usize>)> = IndexMap::new();
    for part in adapters {
        no_copies(&part.name, &part.config.common)?;
        for (key, data) in &part.tensors {
            let shape = data.shape().to_vec();
            let zeros = || (vec![0.0; shape.iter().product()], shape.clone());
            let (sum, expected) = sums.entry(key).or_insert_with(zeros);
            if *expected != shape {
                return refuse(format!(
                    "{key} is {expected:?} in one adapter and {shape:?} in {}: \
                     feedforward_modules has to be the same for a layer in all of them",
                    part.name
                ));
            }
            for (sum, value) in sum.iter_mut().zip(data.iter::<f32>()) {
                *sum += part.weight as f32 * value;
            }
        }
    }
    let all = |of: fn(&IA3Config) -> Option<&TargetModules>| {
        let configs = adapters.iter().map(|part| &part.config);
        configs.filter_map(of).collect::<Vec<_>>()
    };
    let targets = all(|config| config.common.target_modules.as_ref());
    let feedforward = all(|config| config.feedforward_modules.as_ref());
    let mut config = adapters[0].config.clone();
    config.common.target_modules = united("target_modules", targets)?;
    let feedforward = of_one_kind(&feedforward);
    config.feedforward_modules = united("feedforward_modules", feedforward.iter().collect())?;
    sums.sort_keys();
    let tensors = sums.into_iter();
    let tensors = tensors.map(|(key, (sum, shape))| (key.into(), TensorData::new(sum, shape)));
    let tensors: Vec<_> = tensors.collect();
    Ok(Combined {
        config: Arc::new(config),
        layers: tensors.len(),
        tensors,
    })
}

/// The feed-forward layers as patterns, if one of them is a pattern; an empty string for none.
fn of_one_kind(all: &[&TargetModules]) -> Vec<TargetModules> {
    let any_pattern = all.iter().any(|m| matches!(m, TargetModules::Pattern(_)));
    let named = all
        .iter()
        .filter(|modules| !any_pattern || !modules.is_empty());
    let one_kind = named.map(|modules| match modules {
        TargetModules::List(names) if any_pattern => feedforward_pattern(names),
        other => (*other).clone(),
    });
    one_kind.collect()
}
