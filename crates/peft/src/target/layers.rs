//! Finding the layers to adapt, from a configuration and a model's layers.

use super::matching::{Matcher, Selector, Verdict};
use super::no_match::{Model, no_match, string_hint};
use super::paths::{Tree, ends_with_name, short_names};
use super::pattern::pattern_value;
use super::suffix::{MIN_TO_SHORTEN, minimal_suffixes};
use crate::config::{CommonConfig, TargetModules, TaskType};
use crate::{LayerInfo, Method, PeftError, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value};

/// The layers to adapt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Their paths, in the order of the model.
    pub paths: Vec<String>,
    /// The `target_modules` of a saved configuration: the default if none was given, the names that
    /// `all-linear` stands for, or the shortest distinguishing names instead of a list of 20 or
    /// more.
    pub target_modules: TargetModules,
}

/// Finds the layers of a model that `common` selects.
///
/// `layers` are all layers of the model in order; `method` says which of them it can adapt, and
/// which it adapts by default. Warns about names and exclusions that match nothing.
///
/// # Errors
/// If no target modules are given and there is no default, a pattern is not a regular expression, a
/// module matches that the method cannot adapt, or no layer matches.
pub fn target_layers(
    common: &CommonConfig,
    layers: &[LayerInfo],
    method: &dyn Method,
    model_type: &str,
) -> Result<Targets> {
    let defaults = method.default_target_modules(model_type);
    let model = Model {
        layers,
        method,
        model_type,
    };
    let Some(given) = common.target_modules.as_ref().or(defaults.as_ref()) else {
        return Err(PeftError::target(
            "target_modules",
            format!(
                "is not given and has no default for {}; {}",
                model.name(),
                model.adaptable()
            ),
        ));
    };
    let tree = Tree::new(layers.iter().map(|layer| layer.path.as_str()));
    let target_modules = resolve(given, common, layers, &tree);
    let matcher = Matcher::new(common, &target_modules)?;

    let is_supported = |path: &str| {
        let mut layers = layers.iter();
        layers.any(|layer| layer.path == path && method.supports(layer))
    };
    for container in tree.containers().filter(|path| !is_supported(path)) {
        if matcher.verdict(container)? == Verdict::Targeted {
            let inner = short_names(tree.leaves_of(container));
            return Err(PeftError::target(
                "target_modules",
                format!(
                    "{given} matches {container}, which is not a layer but holds layers; name \
                     those: {inner}"
                ),
            ));
        }
    }
    let mut paths = Vec::new();
    let mut verdicts = Vec::with_capacity(layers.len());
    for layer in layers {
        let verdict = matcher.verdict(&layer.path)?;
        verdicts.push(verdict);
        if verdict == Verdict::Targeted {
            if !method.supports(layer) {
                return Err(model.unsupported(given, layer));
            }
            paths.push(layer.path.clone());
        }
    }
    if paths.is_empty() {
        let defaults = defaults.as_ref();
        return Err(no_match(&model, common, given, defaults, &verdicts));
    }
    warn_unused(common, &target_modules, &tree, layers)?;
    warn_unused_blocks(common, &matcher, &paths)?;
    Ok(Targets {
        paths,
        target_modules,
    })
}

/// Replaces `all-linear` by the names it stands for, and shortens long lists.
fn resolve(
    given: &TargetModules,
    common: &CommonConfig,
    layers: &[LayerInfo],
    tree: &Tree,
) -> TargetModules {
    let names = match given {
        pattern if pattern.is_all_linear() => all_linear(common, layers),
        TargetModules::Pattern(_) => return given.clone(),
        TargetModules::List(names) => names.clone(),
    };
    if names.len() < MIN_TO_SHORTEN {
        return TargetModules::List(names);
    }
    let named = |path: &str| names.iter().any(|name| ends_with_name(path, name));
    let others = tree.all().filter(|path| !named(path));
    let short = minimal_suffixes(names.iter().map(String::as_str), others);
    if short.len() < names.len() {
        TargetModules::list(short)
    } else {
        TargetModules::List(names)
    }
}

/// Every linear layer except the output layer, which in a classifier is its head.
fn all_linear(common: &CommonConfig, layers: &[LayerInfo]) -> Vec<String> {
    let classifies = !layers.iter().any(|layer| layer.is_output);
    let heads = common.task_type.filter(|_| classifies);
    let heads = heads.map_or(&[][..], TaskType::heads);
    // Heads of two layers, and `pre_classifier`, are copied as a whole (`modules_to_save`).
    let lies_in =
        |path: &str, head: &str| path.ends_with(head) || path.contains(&format!("{head}."));
    let is_head =
        |layer: &LayerInfo| layer.is_output || heads.iter().any(|head| lies_in(&layer.path, head));
    layers
        .iter()
        .filter(|layer| layer.kind.is_linear())
        .filter(|layer| !is_head(layer))
        .map(|layer| layer.path.clone())
        .collect()
}

/// Names that match no layer although others do, and exclusions that exclude nothing, are usually
/// typing errors.
fn warn_unused(
    common: &CommonConfig,
    target_modules: &TargetModules,
    tree: &Tree,
    layers: &[LayerInfo],
) -> Result<()> {
    if let TargetModules::List(names) = target_modules {
        let unused: Vec<&str> = (names.iter().map(String::as_str))
            .filter(|name| !layers.iter().any(|layer| ends_with_name(&layer.path, name)))
            .collect();
        if !unused.is_empty() {
            let unused = unused.join(", ");
            tracing::warn!(
                "target_modules: no layer is called {unused}, so nothing is adapted for \
                 it; layers are found for the other names"
            );
        }
    }
    let excluded: Vec<TargetModules> = match &common.exclude_modules {
        None => Vec::new(),
        Some(all) if all.is_empty() => Vec::new(),
        Some(TargetModules::List(names)) => {
            let each = names.iter().map(|name| TargetModules::list([name]));
            each.collect()
        }
        Some(pattern) => vec![pattern.clone()],
    };
    for exclude in excluded {
        let selector = Selector::new("exclude_modules", &exclude)?;
        let mut excludes = false;
        for path in tree.all() {
            excludes |= selector.names(path)?;
        }
        if !excludes {
            let hint = string_hint(&exclude, tree.all().collect::<Vec<_>>().into_iter());
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            tracing::warn!("exclude_modules {exclude} excludes nothing{hint}");
        }
    }
    Ok(())
}

/// Indices and names of blocks that select none of the adapted layers at `paths`.
fn warn_unused_blocks(common: &CommonConfig, matcher: &Matcher, paths: &[String]) -> Result<()> {
    if common.layer_indices().is_empty() {
        return Ok(());
    }
    let (mut indices, mut patterns) = (Vec::new(), Vec::new());
    for path in paths {
        if let Some((pattern, index)) = matcher.chosen_block(path)? {
            indices.push(index);
            patterns.push(pattern);
        }
    }
    let unused = common.layer_indices().iter();
    let unused = unused.filter(|index| !indices.contains(index));
    let unused: Vec<_> = unused.map(i64::to_string).collect();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        tracing::warn!(
            "layers_to_transform: entries with no effect: {unused} (no such block is adapted)"
        );
    }
    let unused = common.layer_patterns().iter().enumerate();
    let unused = unused.filter(|(number, _)| !patterns.contains(number));
    let unused: Vec<_> = unused.map(|(_, pattern)| pattern.as_str()).collect();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        tracing::warn!(
            "layers_pattern: entries with no effect: {unused} (no adapted layer is in such a list)"
        );
    }
    Ok(())
}

/// Entries of `rank_pattern`, `alpha_pattern` and similar keys of a configuration that match none
/// of the adapted layers at `paths`.
///
/// # Errors
/// If a pattern is not a regular expression.
pub(crate) fn warn_unused_patterns(config: &Map<String, Value>, paths: &[String]) -> Result<()> {
    for (key, value) in config {
        let Some(entries) = value.as_object().filter(|_| key.ends_with("_pattern")) else {
            continue;
        };
        let mut unused = Vec::new();
        for (pattern, value) in entries {
            let one = IndexMap::from([(pattern.clone(), ())]);
            let mut matches = !value.is_number();
            for path in paths {
                matches |= pattern_value(key, &one, path)?.is_some();
            }
            if !matches {
                unused.push(pattern.as_str());
            }
        }
        if !unused.is_empty() {
            let unused = unused.join(", ");
            tracing::warn!(
                "{key}: entries with no effect: {unused} (no adapted layer has such a name)"
            );
        }
    }
    Ok(())
}
