//! A matrix with one byte per value, or its transpose, as products read it.

use std::ops::Range;

use rayon::prelude::*;

use super::matrix::{Int8Matrix, OFFSET, Scales, Square, place};
use super::{BLOCK, SQUARE};

/// Which blocks of activations a product rounds to 16 bits instead of eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Those far larger than the typical block of their row. For activations, of which few are
    /// outliers.
    Relative,
    /// Of those, only the blocks with a value above 1/16. For probabilities, which are between 0
    /// and 1: in the rows of a model that is sure of the next token, hardly any block is near the
    /// typical one.
    Probability,
}

/// A view of an [`Int8Matrix`], or of its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Int8View<'a> {
    squares: &'a [Square],
    scales: &'a [Scales],
    /// The factors of the columns of the matrix as it is stored.
    factors: &'a [f32],
    /// How many squares it is from one to the next on its right.
    down: usize,
    /// The sizes of the matrix as it is stored.
    rows: usize,
    cols: usize,
    is_transposed: bool,
    limit: Limit,
}

impl<'a> Int8View<'a> {
    pub(super) fn new(matrix: &'a Int8Matrix) -> Self {
        Self {
            squares: &matrix.squares,
            scales: &matrix.scales,
            factors: &matrix.factors,
            down: matrix.rows.div_ceil(SQUARE),
            rows: matrix.rows,
            cols: matrix.cols,
            is_transposed: false,
            limit: Limit::Relative,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        if self.is_transposed {
            self.cols
        } else {
            self.rows
        }
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        if self.is_transposed {
            self.rows
        } else {
            self.cols
        }
    }

    /// The transposed matrix, over the same memory.
    pub fn transposed(self) -> Self {
        Self {
            is_transposed: !self.is_transposed,
            ..self
        }
    }

    /// Whether it is transposed; products then round its values once more.
    pub fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// The same matrix, in whose products blocks above this limit are rounded to 16 bits.
    pub fn with_limit(self, limit: Limit) -> Self {
        Self { limit, ..self }
    }

    /// Which blocks of activations its products round to 16 bits; [`Limit::Relative`] unless told
    /// otherwise.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are no such rows, or if the first is not the first of a square.
    pub fn some_rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows());
        if rows.is_empty() {
            let none = |count| {
                if self.is_transposed {
                    (count, 0)
                } else {
                    (0, count)
                }
            };
            let (rows, cols) = none(self.cols());
            return Self { rows, cols, ..self };
        }
        assert!(
            rows.start.is_multiple_of(SQUARE),
            "row {} is inside a square",
            rows.start
        );
        let first = rows.start / SQUARE;
        let first = if self.is_transposed {
            first * self.down
        } else {
            first
        };
        let (squares, scales) = (&self.squares[first..], &self.scales[first..]);
        let view = Self {
            squares,
            scales,
            ..self
        };
        if self.is_transposed {
            Self {
                factors: &self.factors[rows.start..],
                cols: rows.len(),
                ..view
            }
        } else {
            Self {
                rows: rows.len(),
                ..view
            }
        }
    }

    /// One value.
    ///
    /// # Panics
    /// If there is no such value.
    #[inline]
    pub fn at(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows() && col < self.cols());
        let (row, col) = if self.is_transposed {
            (col, row)
        } else {
            (row, col)
        };
        let square = col / SQUARE * self.down + row / SQUARE;
        let code = i32::from(self.squares[square].0[place(row, col)]) - OFFSET;
        let scale = self.scales[square][row % SQUARE / BLOCK * SQUARE + col % SQUARE];
        code as f32 * (scale.to_f32() * self.factors[col])
    }

    /// Writes the values of a row.
    ///
    /// # Panics
    /// If there is no such row, or if `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols());
        for (col, out) in out.iter_mut().enumerate() {
            *out = self.at(row, col);
        }
    }

    /// All values, row after row.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows() * self.cols()];
        if !values.is_empty() {
            let rows = values.par_chunks_mut(self.cols()).enumerate();
            rows.for_each(|(row, out)| self.row(row, out));
        }
        values
    }

    /// The scales of the squares of a column, counted in this view, if they lie together.
    pub(super) fn scales_of(&self, across: usize) -> &'a [Scales] {
        if self.is_transposed {
            return &[];
        }
        let first = across * self.down;
        let scales = self.scales.get(first..first + self.rows.div_ceil(SQUARE));
        scales.unwrap_or_default()
    }

    /// A square, counted in this view, the scales of its columns, and their factors. For a transposed
    /// matrix all are as they are stored.
    pub(super) fn square(
        &self,
        down: usize,
        across: usize,
    ) -> (&'a Square, &'a Scales, &'a [f32; SQUARE]) {
        let (down, across) = if self.is_transposed {
            (across, down)
        } else {
            (down, across)
        };
        let number = across * self.down + down;
        let factors = &self.factors.as_chunks::<SQUARE>().0[across];
        (&self.squares[number], &self.scales[number], factors)
    }
}
