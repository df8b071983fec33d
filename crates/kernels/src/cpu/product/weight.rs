//! A weight in either of its types.

use half::bf16;

use super::{Matrix, MatrixMut, Onto, product_bf16, product_f32};

/// A weight as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// In 32 bits.
    F32(Matrix<'a, f32>),
    /// In 16 bits.
    BF16(Matrix<'a, bf16>),
}

impl Weight<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Self::F32(weight) => weight.rows(),
            Self::BF16(weight) => weight.rows(),
        }
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        match self {
            Self::F32(weight) => weight.cols(),
            Self::BF16(weight) => weight.cols(),
        }
    }

    /// The transposed weight, over the same memory.
    pub fn transposed(self) -> Self {
        match self {
            Self::F32(weight) => Self::F32(weight.transposed()),
            Self::BF16(weight) => Self::BF16(weight.transposed()),
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn some_rows(self, rows: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(weight) => Self::F32(weight.some_rows(rows)),
            Self::BF16(weight) => Self::BF16(weight.some_rows(rows)),
        }
    }

    /// One value.
    ///
    /// # Panics
    /// If it lies beyond the memory of the weight.
    #[inline]
    pub fn at(&self, row: usize, column: usize) -> f32 {
        match self {
            Self::F32(weight) => weight.at(row, column),
            Self::BF16(weight) => weight.at(row, column).to_f32(),
        }
    }

    /// `out = onto + a · weight`, `[m, k] · [k, n]`.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn product(&self, a: Matrix<'_, f32>, onto: Onto<'_>, out: &mut MatrixMut<'_>) {
        match self {
            Self::F32(weight) => product_f32(a, *weight, onto, out),
            Self::BF16(weight) => product_bf16(a, *weight, onto, out),
        }
    }
}
