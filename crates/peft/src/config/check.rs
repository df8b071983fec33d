//! Checks of single keys, with errors that name the key and the value.

use crate::{PeftError, Result};

/// The largest rank that is taken: wider than any layer, and small enough to be allocated.
const MAX_RANK: usize = 65_536;

fn fail<T>(key: &str, value: impl std::fmt::Display, reason: &str) -> Result<T> {
    Err(PeftError::Config(format!("{key} = {value}: {reason}")))
}

/// A rank: positive, and not beyond any layer's width.
pub(crate) fn positive(key: &str, value: usize) -> Result<()> {
    match value {
        0 => fail(key, value, "must be a positive whole number"),
        1..=MAX_RANK => Ok(()),
        _ => fail(key, value, "is larger than any layer: at most 65536"),
    }
}

/// A probability to drop something.
pub(crate) fn probability(key: &str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => fail(key, value, "must be at least 0 and below 1"),
    }
}

/// A number that is not NaN or infinite.
pub(crate) fn finite(key: &str, value: f64) -> Result<()> {
    match value.is_finite() {
        true => Ok(()),
        false => fail(key, value, "must be finite"),
    }
}
