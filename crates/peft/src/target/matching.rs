//! PEFT's `check_target_module_exists`: whether a module is a target.

use super::paths::ends_with_name;
use super::pattern::Pattern;
use crate::Result;
use crate::config::{CommonConfig, TargetModules};

/// Why a module is a target, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is a target.
    Targeted,
    /// Nothing names it.
    NotNamed,
    /// `exclude_modules` removes it.
    Excluded,
    /// It is, or lies in, one of `modules_to_save`.
    Saved,
    /// `layers_to_transform` excludes it; with its index, if one was found.
    OtherLayer(Option<i64>),
}

/// The part of a configuration that selects layers, ready for matching.
pub(crate) struct Matcher<'a> {
    targets: Selector<'a>,
    exclude: Option<Selector<'a>>,
    saved: Vec<Pattern>,
    indices: &'a [i64],
    index_patterns: Vec<Pattern>,
}

impl<'a> Matcher<'a> {
    /// The selection of `common`, with `targets` instead of its `target_modules`.
    pub fn new(common: &'a CommonConfig, targets: &'a TargetModules) -> Result<Self> {
        let saved = common.modules_to_save.iter().flatten();
        let block = |pattern| {
            Pattern::new(
                "layers_pattern",
                pattern,
                r".*?\.(?:",
                r")\.(?<layer_index>\d+)\..*",
            )
        };
        let index_patterns = match common.layer_patterns() {
            [] => vec![block("[^.]*")?],
            patterns => patterns.iter().map(|p| block(p)).collect::<Result<_>>()?,
        };
        Ok(Self {
            targets: Selector::new("target_modules", targets)?,
            exclude: (common.exclude_modules.as_ref())
                .filter(|modules| !modules.is_empty())
                .map(|modules| Selector::new("exclude_modules", modules))
                .transpose()?,
            // These names are regular expressions too.
            saved: saved
                .map(|name| Pattern::new("modules_to_save", name, r"(?:.*\.)?(?:", r")(?:\..*)?"))
                .collect::<Result<_>>()?,
            indices: common.layer_indices(),
            index_patterns,
        })
    }

    /// Whether the module at `path` is a target.
    pub fn verdict(&self, path: &str) -> Result<Verdict> {
        let named = self.targets.matches(path)?;
        if named == Match::No {
            return Ok(Verdict::NotNamed);
        }
        if self.excludes(path)? {
            return Ok(Verdict::Excluded);
        }
        for pattern in &self.saved {
            if pattern.matches(path)? {
                return Ok(Verdict::Saved);
            }
        }
        // A whole path in the list matches whatever its index.
        if named == Match::Whole || self.indices.is_empty() {
            return Ok(Verdict::Targeted);
        }
        let index = self.block(path)?.map(|(_, index)| index);
        Ok(match index {
            Some(index) if self.indices.contains(&index) => Verdict::Targeted,
            index => Verdict::OtherLayer(index),
        })
    }

    /// For a target: which of `layers_pattern` found its block, and the index of the block, if
    /// these decide.
    pub fn chosen_block(&self, path: &str) -> Result<Option<(usize, i64)>> {
        match self.targets.matches(path)? {
            Match::End => self.block(path),
            _ => Ok(None),
        }
    }

    /// Whether `exclude_modules` names the module at `path`.
    pub fn excludes(&self, path: &str) -> Result<bool> {
        match &self.exclude {
            Some(exclude) => exclude.names(path),
            None => Ok(false),
        }
    }

    /// The pattern that finds the block of `path`, and the index of the block.
    fn block(&self, path: &str) -> Result<Option<(usize, i64)>> {
        for (number, pattern) in self.index_patterns.iter().enumerate() {
            if let Some(captures) = pattern.captures(path)? {
                let digits = captures.name("layer_index");
                let index = digits.and_then(|digits| digits.as_str().parse().ok());
                return Ok(index.map(|index| (number, index)));
            }
        }
        Ok(None)
    }
}

/// How a selector names a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    No,
    /// By the end of its path.
    End,
    /// By its whole path.
    Whole,
}

/// The names in `target_modules` or `exclude_modules`.
pub(crate) enum Selector<'a> {
    Pattern(Pattern),
    Names(&'a [String]),
}

impl<'a> Selector<'a> {
    /// The names in `modules`, given under `key`.
    pub fn new(key: &str, modules: &'a TargetModules) -> Result<Self> {
        Ok(match modules {
            TargetModules::Pattern(pattern) => Self::Pattern(Pattern::full(key, pattern)?),
            TargetModules::List(names) => Self::Names(names),
        })
    }

    /// Whether the module at `path` is named.
    pub fn names(&self, path: &str) -> Result<bool> {
        Ok(self.matches(path)? != Match::No)
    }

    fn matches(&self, path: &str) -> Result<Match> {
        Ok(match self {
            Self::Pattern(pattern) if pattern.matches(path)? => Match::Whole,
            Self::Pattern(_) => Match::No,
            Self::Names(names) if names.iter().any(|name| name == path) => Match::Whole,
            Self::Names(names) if names.iter().any(|name| ends_with_name(path, name)) => Match::End,
            Self::Names(_) => Match::No,
        })
    }
}
