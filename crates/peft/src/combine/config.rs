//! The configuration of a combined LoRA adapter.

use indexmap::IndexMap;

use super::lora::Lora;
use super::{Combination, CombinationType};
use crate::config::{Bias, CommonConfig, InitLoraWeights, TargetModules};
use crate::{LoraConfig, PeftError, Result};

/// The first adapter's configuration, with the layers of all adapters, the new rank and α = r.
pub(super) fn combined(adapters: &[Lora], combination: &Combination) -> Result<LoraConfig> {
    let first = &adapters[0];
    for part in adapters {
        check(part, first)?;
    }
    let r = rank(adapters, combination)?;
    let mut config = first.config.clone();
    config.r = r;
    config.lora_alpha = r as f64;
    config.use_rslora = false;
    config.rank_pattern = IndexMap::new();
    config.alpha_pattern = IndexMap::new();
    config.init_lora_weights = InitLoraWeights::True;
    (config.eva_config, config.loftq_config) = (None, None);
    config.fan_in_fan_out = adapters.iter().any(|part| part.config.fan_in_fan_out);
    config.common.target_modules = target_modules(adapters)?;
    let base = |part: &Lora| part.config.common.base_model_name_or_path.clone();
    if let Some(other) = adapters.iter().find(|other| base(other) != base(first)) {
        let shown = |part: &Lora| base(part).unwrap_or_else(|| "a model without a name".into());
        tracing::warn!(
            "{} was trained on {} and {} on {}",
            first.name,
            shown(first),
            other.name,
            shown(other)
        );
    }
    Ok(config)
}

/// Whether an adapter has no copies of layers.
pub(super) fn no_copies(name: &str, common: &CommonConfig) -> Result<()> {
    match common.modules_to_save.as_ref().filter(|n| !n.is_empty()) {
        Some(names) => Err(PeftError::not_combinable(format!(
            "{name}: modules_to_save = {}: copies of layers cannot be combined",
            names.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Whether an adapter consists of factors only, and chooses layers in the same way as the first.
fn check(part: &Lora, first: &Lora) -> Result<()> {
    let (common, other) = (&part.config.common, &first.config.common);
    let refuse = |reason: String| {
        Err(PeftError::not_combinable(format!(
            "{}: {reason}",
            part.name
        )))
    };
    no_copies(&part.name, common)?;
    if part.config.bias != Bias::None || part.config.lora_bias {
        return refuse("trained biases (bias, lora_bias) cannot be combined".into());
    }
    if part.config.use_dora {
        return refuse("use_dora = true: DoRA's magnitudes cannot be combined".into());
    }
    let differs = [
        (
            "exclude_modules",
            common.exclude_modules != other.exclude_modules,
        ),
        (
            "layers_to_transform",
            common.layers_to_transform != other.layers_to_transform,
        ),
        (
            "layers_pattern",
            common.layers_pattern != other.layers_pattern,
        ),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((key, _)) => refuse(format!(
            "its {key} is not that of {}, so one configuration cannot name the layers of both",
            first.name
        )),
        None => Ok(()),
    }
}

/// The rank of the result.
fn rank(adapters: &[Lora], combination: &Combination) -> Result<usize> {
    let largest = |part: &Lora| {
        let pattern = part.config.rank_pattern.values().copied();
        pattern.chain([part.config.r]).max().unwrap_or_default()
    };
    let ranks: Vec<usize> = adapters.iter().map(largest).collect();
    let most = ranks.iter().copied().max().unwrap_or_default();
    match combination.combination_type {
        CombinationType::Cat => Ok(ranks.iter().sum()),
        _ if combination.is_by_svd() => Ok(combination.svd_rank.unwrap_or(most)),
        kind if ranks.iter().any(|&rank| rank != most) => Err(PeftError::not_combinable(format!(
            "combination_type {kind} needs adapters of one rank, these have {}: use cat, svd or a \
             type that ends with _svd",
            (ranks.iter().map(ToString::to_string).collect::<Vec<_>>()).join(", ")
        ))),
        _ => Ok(most),
    }
}

/// The layers of all adapters.
fn target_modules(adapters: &[Lora]) -> Result<Option<TargetModules>> {
    let all = adapters
        .iter()
        .map(|part| &part.config.common.target_modules);
    united("target_modules", all.flatten().collect())
}

/// What any of these values of a key implies.
pub(super) fn united(key: &str, all: Vec<&TargetModules>) -> Result<Option<TargetModules>> {
    if all.iter().all(|targets| *targets == all[0]) {
        return Ok(all.first().map(|&targets| targets.clone()));
    }
    let (mut names, mut patterns): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for targets in &all {
        match targets {
            TargetModules::List(list) => {
                for name in list {
                    if !names.contains(name) {
                        names.push(name.clone());
                    }
                }
            }
            TargetModules::Pattern(pattern) => patterns.push(format!("({pattern})")),
        }
    }
    match (names.is_empty(), patterns.is_empty()) {
        (false, false) => Err(PeftError::not_combinable(format!(
            "the adapters' {key} are a list in one and a pattern in another: they cannot be \
             combined"
        ))),
        (_, true) => Ok(Some(TargetModules::List(names))),
        (true, false) => Ok(Some(TargetModules::Pattern(patterns.join("|")))),
    }
}
