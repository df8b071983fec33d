//! Dropout as a function of a seed.

use std::borrow::Cow;

use super::buffer::{for_rows, vectorised};
use super::random::{bits, row_key};

/// Which values are dropped, and by how much the others grow.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    seed: u64,
    /// A value is dropped if its random bits are below.
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Dropout with this probability; none at 0.
    pub fn new(probability: f64, seed: u64) -> Option<Self> {
        (probability > 0.0).then(|| Self {
            seed,
            threshold: (probability * 2f64.powi(32)) as u32,
            scale: if probability < 1.0 {
                (1.0 / (1.0 - probability)) as f32
            } else {
                0.0
            },
        })
    }

    /// What the value in this place is multiplied by.
    #[inline(always)]
    pub fn factor(&self, row_key: u32, column: u32) -> f32 {
        match bits(row_key, column) < self.threshold {
            true => 0.0,
            false => self.scale,
        }
    }

    /// Drops values of rows of `width`.
    pub fn apply(&self, values: &mut [f32], width: usize) {
        for_rows(values, width, |first, rows| {
            vectorised(|| {
                for (row, values) in rows.chunks_exact_mut(width).enumerate() {
                    let key = row_key(self.seed, (first + row) as u64);
                    for (column, value) in values.iter_mut().enumerate() {
                        *value *= self.factor(key, column as u32);
                    }
                }
            });
        });
    }

    /// Calls `body` with `values` after dropout, if there is any.
    pub fn on<R>(
        dropout: Option<Self>,
        values: &[f32],
        width: usize,
        body: impl FnOnce(&[f32]) -> R,
    ) -> R {
        let mut values = Cow::Borrowed(values);
        if let Some(dropout) = dropout {
            dropout.apply(values.to_mut(), width);
        }
        body(&values)
    }
}
