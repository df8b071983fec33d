//! Regular expressions with Python's meaning.

use crate::{PeftError, Result};
use fancy_regex::{Captures, Regex};
use indexmap::IndexMap;
use std::fmt::Debug;

/// A regular expression from a configuration, and its description in errors.
pub(crate) struct Pattern {
    key: String,
    pattern: String,
    regex: Regex,
}

impl Pattern {
    /// Python's `re.fullmatch(pattern, …)`. `key` is the configuration key it stands under.
    pub fn full(key: &str, pattern: &str) -> Result<Self> {
        Self::new(key, pattern, "", "")
    }

    /// Python's `re.fullmatch(before + pattern + after, …)`, where `pattern` must be a regular
    /// expression by itself.
    pub fn new(key: &str, pattern: &str, before: &str, after: &str) -> Result<Self> {
        let compile = |regex: &str| {
            Regex::new(regex).map_err(|error| PeftError::Pattern {
                key: key.to_string(),
                pattern: pattern.to_string(),
                problem: format!("is not a regular expression: {error}"),
            })
        };
        compile(pattern)?;
        let regex = compile(&format!(r"\A(?:{before}{pattern}{after})\z"))?;
        Ok(Self {
            key: key.to_string(),
            pattern: pattern.to_string(),
            regex,
        })
    }

    /// Whether `path` matches.
    pub fn matches(&self, path: &str) -> Result<bool> {
        (self.regex.is_match(path)).map_err(|error| self.gave_up(path, &error))
    }

    /// The groups of the match, if `path` matches.
    pub fn captures<'a>(&self, path: &'a str) -> Result<Option<Captures<'a>>> {
        (self.regex.captures(path)).map_err(|error| self.gave_up(path, &error))
    }

    /// Look-around and back-references can take exponential time; the engine stops them.
    fn gave_up(&self, path: &str, error: &fancy_regex::Error) -> PeftError {
        PeftError::Pattern {
            key: self.key.clone(),
            pattern: self.pattern.clone(),
            problem: format!("could not be matched to {path}: {error}"),
        }
    }
}

/// Python's `re.fullmatch(pattern, path)`; `key` is the configuration key that errors name.
///
/// # Errors
/// If the pattern is not a regular expression.
pub fn full_match(key: &str, pattern: &str, path: &str) -> Result<bool> {
    Pattern::full(key, pattern)?.matches(path)
}

/// `name`, escaped so that it matches itself in a regular expression, in Python too.
pub(crate) fn escaped(name: &str) -> String {
    fancy_regex::escape(name).into_owned()
}

/// The value that `rank_pattern` or `alpha_pattern` (`key`) gives to the layer at `path`: that of
/// the first pattern that matches the end of the path after a dot, or the whole path (`^` stands
/// for its start). Warns if a later pattern gives another value: PEFT sorts the patterns in its
/// files, so that their order, and with it the choice, gets lost.
///
/// # Errors
/// If a pattern is not a regular expression.
pub fn pattern_value<'a, V: PartialEq + Debug>(
    key: &str,
    patterns: &'a IndexMap<String, V>,
    path: &str,
) -> Result<Option<&'a V>> {
    let mut first: Option<(&String, &V)> = None;
    for (pattern, value) in patterns {
        if !Pattern::new(key, pattern, r"(?:.*\.)?(?:", ")")?.matches(path)? {
            continue;
        }
        match first {
            None => first = Some((pattern, value)),
            Some((used, chosen)) if chosen != value => tracing::warn!(
                "{key}: both {used:?} ({chosen:?}) and {pattern:?} ({value:?}) match {path}; \
                 {used:?} comes first and is used"
            ),
            Some(_) => {}
        }
    }
    Ok(first.map(|(_, value)| value))
}
