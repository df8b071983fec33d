//! Error messages about layers: why none is selected, and which there are.

use super::matching::Verdict;
use super::paths::{ends_with_name, short_names};
use super::pattern::Pattern;
use crate::config::{CommonConfig, TargetModules};
use crate::{LayerInfo, Method, PeftError, methods};
use indexmap::IndexSet;
use std::collections::BTreeSet;

/// A model as a method sees it.
pub(crate) struct Model<'a> {
    pub layers: &'a [LayerInfo],
    pub method: &'a dyn Method,
    pub model_type: &'a str,
}

impl Model<'_> {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        match self.model_type {
            "" => "the model",
            name => name,
        }
    }

    /// The layers that the method can adapt, each name once.
    pub fn adaptable(&self) -> String {
        let paths = self.supported_layers().map(|layer| layer.path.as_str());
        match short_names(paths) {
            names if names.is_empty() => "it has no layer that this method can adapt".to_string(),
            names => format!("its adaptable layers are: {names}"),
        }
    }

    /// The error for a target that the method cannot adapt.
    pub fn unsupported(&self, given: &TargetModules, layer: &LayerInfo) -> PeftError {
        let kinds: IndexSet<_> = (self.supported_layers())
            .map(|layer| layer.kind.to_string())
            .collect();
        let kinds: Vec<_> = kinds.into_iter().collect();
        let can = match kinds.as_slice() {
            [] => "no layer".to_string(),
            kinds => format!("{} layers", kinds.join(" and ")),
        };
        let method = self.method.peft_type();
        let others = match methods::supporting(layer).join(", ") {
            none if none.is_empty() => none,
            others => format!(" (methods for such a layer: {others})"),
        };
        PeftError::target(
            "target_modules",
            format!(
                "{given} matches {} ({}), which {method} cannot adapt; in {} it adapts {can}{others}",
                layer.path,
                layer.kind,
                self.name()
            ),
        )
    }

    fn supported_layers(&self) -> impl Iterator<Item = &LayerInfo> + Clone {
        self.layers
            .iter()
            .filter(|layer| self.method.supports(layer))
    }
}

/// Says why no layer remains: nothing is named, or what is named is excluded again.
pub(crate) fn no_match(
    model: &Model,
    common: &CommonConfig,
    given: &TargetModules,
    defaults: Option<&TargetModules>,
    verdicts: &[Verdict],
) -> PeftError {
    let name = model.name();
    let removed = removals(common, verdicts);
    if !removed.is_empty() {
        return PeftError::target(
            "target_modules",
            format!(
                "{given} matches layers of {name}, but none is left: {}",
                removed.join("; ")
            ),
        );
    }
    let mut message = format!("{given} matches no layer of {name}");
    if given.is_all_linear() {
        // The output layer of a model that names one does not count.
        message += ", which has no linear layer besides an output layer";
    }
    message += "; ";
    let paths = model.layers.iter().map(|layer| layer.path.as_str());
    if let Some(hint) = string_hint(given, paths) {
        message += &format!("{hint}; ");
    }
    message += &model.adaptable();
    if let Some(defaults) = defaults.filter(|defaults| *defaults != given) {
        message += &format!(" (the default for {name} is {defaults})");
    }
    PeftError::target("target_modules", message)
}

/// What to write instead of a string that was meant as names, or as the end of paths: PEFT treats a
/// string as a regular expression that has to match the whole path.
pub(super) fn string_hint<'a>(
    given: &TargetModules,
    paths: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let TargetModules::Pattern(pattern) = given else {
        return None;
    };
    let names: Vec<&str> = pattern
        .split([',', ' '])
        .filter(|n| !n.is_empty())
        .collect();
    let is_name = |name: &&str| paths.clone().any(|path| ends_with_name(path, name));
    if !names.is_empty() && names.iter().all(is_name) {
        return Some(format!(
            "a string is a pattern for whole paths; names are a list: {}",
            TargetModules::list(names)
        ));
    }
    let end = Pattern::new("", pattern, r"(?:.*\.)?(?:", ")").ok()?;
    let mut paths = paths;
    let found = paths.any(|path| end.matches(path).is_ok_and(|matches| matches));
    found.then(|| {
        format!("a string is a pattern for whole paths, and this one ends some: '.*\\.({pattern})'")
    })
}

/// Which keys exclude named layers, and how many.
fn removals(common: &CommonConfig, verdicts: &[Verdict]) -> Vec<String> {
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    let mut removed = Vec::new();
    let excluded = count(Verdict::Excluded);
    if let Some(exclude) = common.exclude_modules.as_ref().filter(|_| excluded > 0) {
        removed.push(format!("exclude_modules {exclude} removes {excluded}"));
    }
    let saved = count(Verdict::Saved);
    if let Some(names) = common.modules_to_save.as_ref().filter(|_| saved > 0) {
        removed.push(format!(
            "modules_to_save {} removes {saved}",
            names.join(", ")
        ));
    }
    let indices: Vec<_> = (verdicts.iter())
        .filter_map(|verdict| match verdict {
            Verdict::OtherLayer(index) => Some(*index),
            _ => None,
        })
        .collect();
    if !indices.is_empty() {
        let mut line = format!("layers_to_transform {:?}", common.layer_indices());
        if !common.layer_patterns().is_empty() {
            line += &format!(" with layers_pattern {:?}", common.layer_patterns());
        }
        line += &format!(" removes {}", indices.len());
        let known: BTreeSet<i64> = indices.into_iter().flatten().collect();
        line += &if known.is_empty() {
            ", as no index was found in their paths".to_string()
        } else {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            format!(", whose indices are {}", known.join(", "))
        };
        removed.push(line);
    }
    removed
}
