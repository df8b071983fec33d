//! Several (IA)³ adapters as one: the weighted sum of their scales.

use std::path::Path;

use burn::tensor::TensorData;
use indexmap::IndexMap;

use super::config::united;
use super::{Combination, CombinationType};
use crate::config::{Fields, Keys, TargetModules};
use crate::methods::IA3Config;
use crate::{BaseModel, PeftError, PeftModel, Result};

/// Adds the combination of (IA)³ adapters, `l = Σ w_i l_i` at every layer of any of them
/// (peft/tuners/ia3/model.py, `add_weighted_adapter`).
///
/// # Errors
/// If the adapters do not fit each other or the combination is no linear one.
pub(super) fn add<M: BaseModel>(
    model: &mut PeftModel<M>,
    adapters: &[(&str, f64)],
    adapter_name: &str,
    combination: &Combination,
) -> Result<()> {
    let refuse = |reason: String| Err(PeftError::Adapter(reason));
    if *combination != Combination::new(CombinationType::Linear) {
        return refuse(format!(
            "IA3 adapters are combined by combination_type linear alone, without svd_rank, density \
             and sign: their scales have no factors; got {}",
            combination.combination_type
        ));
    }
    let mut configs = Vec::new();
    let mut sums: IndexMap<String, (Vec<f32>, Vec<usize>)> = IndexMap::new();
    for &(name, weight) in adapters {
        if !weight.is_finite() {
            return refuse(format!("{name}: the weight {weight} is not finite"));
        }
        let config = IA3Config::from_fields(Fields::new(model.config(name)?.to_json(), name))?;
        if let Some(saved) = config
            .common
            .modules_to_save
            .as_ref()
            .filter(|s| !s.is_empty())
        {
            return refuse(format!(
                "{name}: modules_to_save = {saved:?}: copies of layers cannot be combined"
            ));
        }
        configs.push(config);
        for (key, data) in model.adapter_state_dict(name) {
            let shape = data.shape().to_vec();
            let zeros = || (vec![0.0; shape.iter().product()], shape.clone());
            let (sum, expected) = sums.entry(key.clone()).or_insert_with(zeros);
            if *expected != shape {
                return refuse(format!(
                    "{key} is {expected:?} in one adapter and {shape:?} in {name}: \
                     feedforward_modules has to be the same for a layer in all of them"
                ));
            }
            for (sum, value) in sum.iter_mut().zip(data.iter::<f32>()) {
                *sum += weight as f32 * value;
            }
        }
    }
    let all =
        |of: fn(&IA3Config) -> Option<&TargetModules>| configs.iter().filter_map(of).collect();
    let targets = all(|config| config.common.target_modules.as_ref());
    let feedforward = all(|config| config.feedforward_modules.as_ref());
    let mut config = configs[0].clone();
    config.common.target_modules = united("target_modules", targets)?;
    config.feedforward_modules = united("feedforward_modules", feedforward)?;
    model.add_adapter(adapter_name, std::sync::Arc::new(config))?;
    let tensors = sums.into_iter();
    let tensors = tensors.map(|(key, (values, shape))| (key, TensorData::new(values, shape)));
    let loaded = model.load_state_dict(adapter_name, tensors.collect(), Path::new(adapter_name));
    if loaded.is_err() {
        model.delete_adapter(adapter_name)?;
    }
    loaded
}
