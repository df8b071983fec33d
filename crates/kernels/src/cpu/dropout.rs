//! Dropout of rows as a function of a seed.

use std::borrow::Cow;

use super::buffer::{for_rows, vectorised};
pub use super::random::Dropout;
use super::random::{bits, row_key};
use crate::seed::first_row;

/// Dropout with this probability, for rows from [the first](crate::with_first_row) on; `None` if
/// the probability is 0.
pub fn new(probability: f64, seed: u64) -> Option<Dropout> {
    let probability = probability as f32;
    (probability > 0.0).then_some(Dropout {
        seed,
        first: first_row(),
        probability,
    })
}

vectorised! {
    fn drop_from<'a>(first: usize, rows: &'a mut [f32], width: usize, dropout: Dropout) {
        let (threshold, scale) = (dropout.threshold(), dropout.scale());
        let first = first + dropout.first as usize;
        for (row, values) in rows.chunks_exact_mut(width).enumerate() {
            let key = row_key(dropout.seed, (first + row) as u64);
            for (column, value) in values.iter_mut().enumerate() {
                let keeps = bits(key, column as u32) >= threshold;
                *value *= if keeps { scale } else { 0.0 };
            }
        }
    }
}

/// Applies dropout to rows of `width` values.
pub fn drop_rows(values: &mut [f32], width: usize, dropout: Dropout) {
    for_rows(values, width, |first, rows| {
        drop_from(first, rows, width, dropout)
    });
}

/// Calls `body` with `values`, after dropout if there is one.
pub fn dropped<R>(
    values: &[f32],
    width: usize,
    dropout: Option<Dropout>,
    body: impl FnOnce(&[f32]) -> R,
) -> R {
    let mut values = Cow::Borrowed(values);
    if let Some(dropout) = dropout {
        drop_rows(values.to_mut(), width, dropout);
    }
    body(&values)
}
