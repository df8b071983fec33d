//! Ranges for the numbers in configurations, and the common error for numbers out of range.
//!
//! No number from a configuration may reach an allocation or a random generator unchecked, so every
//! number of every method is checked against one of these when it is read.

use std::fmt::Display;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};

use indexmap::IndexMap;
use serde_json::Number;

use crate::{PeftError, Result};

/// A rank, or another dimension of a tensor: at most the width of the widest layer.
pub(crate) const SIDE: RangeInclusive<usize> = 1..=65_536;
/// A dimension, or 0 for none.
pub(crate) const SIDE_OR_NONE: RangeInclusive<usize> = 0..=65_536;
/// A number of repetitions.
pub(crate) const ROUNDS: RangeInclusive<usize> = 1..=10_000;
/// The number of values in one layer.
pub(crate) const VALUES: RangeInclusive<usize> = 1..=1 << 32;
/// Optimizer steps.
pub(crate) const STEPS: RangeInclusive<usize> = 0..=1 << 40;
/// The probability of dropping something.
pub(crate) const PROBABILITY: Range<f64> = 0.0..1.0;
/// A factor, limited so that usual values times it fit 32 bits.
pub(crate) const FACTOR: RangeInclusive<f64> = -1e12..=1e12;
/// The standard deviation, or the bound, of random values around zero.
pub(crate) const DEVIATION: RangeInclusive<f64> = 0.0..=1e6;

/// Checks that the `value` of `key` lies in a range.
///
/// # Errors
/// If it does not, or is NaN: the error has key, value and range.
pub(crate) fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: impl RangeBounds<T>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let from = match range.start_bound() {
        Bound::Included(low) => Some(format!("at least {low}")),
        Bound::Excluded(low) => Some(format!("above {low}")),
        Bound::Unbounded => None,
    };
    let to = match range.end_bound() {
        Bound::Included(high) => Some(format!("at most {high}")),
        Bound::Excluded(high) => Some(format!("below {high}")),
        Bound::Unbounded => None,
    };
    let bounds: Vec<_> = [from, to].into_iter().flatten().collect();
    let bounds = bounds.join(" and ");
    Err(PeftError::value(key, value, format!("must be {bounds}")))
}

/// As [`within`] for every value of a table by patterns, such as `rank_pattern`.
///
/// # Errors
/// As [`within`], with the pattern.
pub(crate) fn each_within<T: PartialOrd + Display + Copy>(
    key: &str,
    values: &IndexMap<String, T>,
    range: impl RangeBounds<T> + Clone,
) -> Result<()> {
    let mut values = values.iter();
    values.try_for_each(|(name, &value)| within(&format!("{key} {name:?}"), value, range.clone()))
}

/// As [`within`], for a number that a file may write with or without a fraction.
///
/// # Errors
/// As [`within`].
pub(crate) fn number_within(key: &str, value: &Number, range: impl RangeBounds<f64>) -> Result<()> {
    within(key, value.as_f64().unwrap_or(f64::NAN), range)
}

/// As [`number_within`] for every value of a table by patterns.
///
/// # Errors
/// As [`each_within`].
pub(crate) fn each_number_within(
    key: &str,
    values: &IndexMap<String, Number>,
    range: impl RangeBounds<f64> + Clone,
) -> Result<()> {
    let mut values = values.iter();
    values.try_for_each(|(name, value)| {
        number_within(&format!("{key} {name:?}"), value, range.clone())
    })
}

/// The most values that one tensor may have.
const NUMBERS: usize = 1 << 31;

/// Checks that a tensor whose shape depends on a configuration can be allocated.
///
/// # Errors
/// If it has too many values; `name` is its name in the error.
pub(crate) fn allocatable(name: &str, shape: &[usize]) -> Result<()> {
    let numbers = shape
        .iter()
        .try_fold(1_usize, |n, &side| n.checked_mul(side));
    if numbers.is_some_and(|numbers| numbers <= NUMBERS) {
        return Ok(());
    }
    Err(PeftError::TooLarge {
        tensor: name.to_string(),
        shape: shape.to_vec(),
        most: NUMBERS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_key_value_and_range() {
        let error = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(
            error(within("r", 0, SIDE)),
            "r = 0: must be at least 1 and at most 65536"
        );
        assert_eq!(
            error(within("lora_dropout", 1.0, PROBABILITY)),
            "lora_dropout = 1: must be at least 0 and below 1"
        );
        assert_eq!(
            error(within("lora_alpha", f64::NAN, FACTOR)),
            "lora_alpha = NaN: must be at least -1000000000000 and at most 1000000000000"
        );
        let above_zero = (Bound::Excluded(0.0), Bound::Unbounded);
        assert_eq!(
            error(within("eps", 0.0, above_zero)),
            "eps = 0: must be above 0"
        );
        within("r", 65_536, SIDE).unwrap();
    }
}
