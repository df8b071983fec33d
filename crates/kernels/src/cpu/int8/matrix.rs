//! Matrices of one byte a value.

use std::ops::Range;

use rayon::prelude::*;

use super::SQUARE;
use super::factors::{column_factors, ones};
use crate::cpu::Matrix;

/// What is added to a value's whole number to make its byte.
pub(super) const OFFSET: i32 = 128;

/// The largest whole number that a value is rounded to.
pub(super) const LARGEST: f32 = 127.0;

/// Columns of a panel; a square has two, one after the other.
pub(super) const PANEL: usize = 32;

/// The bytes of a panel's part in a square.
pub(super) const PANEL_BYTES: usize = SQUARE * PANEL;

/// The bytes of a square, as the tiles of a product read them: `[2 panels][16][32 columns][4]`, four
/// neighbours along the rows together.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Square(pub(super) [u8; SQUARE * SQUARE]);

/// Where a value lies in its square.
#[inline]
pub(super) fn place(row: usize, col: usize) -> usize {
    let (row, col) = (row % SQUARE, col % SQUARE);
    col / PANEL * PANEL_BYTES + row / 4 * 4 * PANEL + col % PANEL * 4 + row % 4
}

/// A weight `[d_in, d_out]` of one byte a value, each of whose squares of 64 × 64 has a scale, and each
/// column a factor.
#[derive(Clone, Debug)]
pub struct Int8Matrix {
    /// Those of the first 64 columns, then those of the next.
    squares: Vec<Square>,
    scales: Vec<f32>,
    of_rows: Vec<f32>,
    of_columns: Vec<f32>,
    rows: usize,
    cols: usize,
}

impl Int8Matrix {
    /// Rounds values to the nearest of 255 that a square's scale allows. A square with a value that is
    /// not finite is all NaN.
    pub fn quantize(values: Matrix<'_, f32>) -> Self {
        let (rows, cols) = (values.rows(), values.cols());
        let of_columns = column_factors(values);
        let down = rows.div_ceil(SQUARE);
        let squares = (0..down * cols.div_ceil(SQUARE)).into_par_iter();
        let squares = squares.map(|at| {
            let (row, col) = (at % down * SQUARE, at / down * SQUARE);
            let part = values.some_rows(row..rows.min(row + SQUARE));
            let part = part.some_columns(col..cols.min(col + SQUARE));
            quantized(part, &of_columns[col..])
        });
        let (squares, scales) = squares.unzip();
        Self {
            squares,
            scales,
            of_rows: ones(rows),
            of_columns,
            rows,
            cols,
        }
    }

    /// As products read it.
    pub fn view(&self) -> Int8View<'_> {
        Int8View {
            squares: &self.squares,
            scales: &self.scales,
            of_rows: &self.of_rows,
            of_columns: &self.of_columns,
            down: self.rows.div_ceil(SQUARE),
            rows: self.rows,
            cols: self.cols,
            is_transposed: false,
            keeps_outliers: true,
        }
    }

    /// How many rows there are: `d_in`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are: `d_out`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes that it takes, scales and factors included.
    pub fn bytes(&self) -> usize {
        let floats = [&self.scales, &self.of_rows, &self.of_columns];
        size_of_val(&*self.squares) + floats.iter().map(|all| size_of_val(&***all)).sum::<usize>()
    }

    /// The bytes of the squares: those of the first 64 columns, from the first rows to the last, then
    /// those of the next. What a square lacks of 64 rows or columns stands for zeros.
    pub fn squares(&self) -> impl Iterator<Item = &[u8]> {
        self.squares.iter().map(|square| &square.0[..])
    }

    /// The scale of each square.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The factor of each column, filled up with ones to whole squares.
    pub fn column_factors(&self) -> &[f32] {
        &self.of_columns
    }
}

/// Rounds values divided by the factors of their columns.
fn quantized(values: Matrix<'_, f32>, factors: &[f32]) -> (Square, f32) {
    let at = |row, col| values.at(row, col) / factors[col];
    let mut square = Square([OFFSET as u8; SQUARE * SQUARE]);
    let places =
        || (0..values.rows()).flat_map(|row| (0..values.cols()).map(move |col| (row, col)));
    let (mut largest, mut is_finite) = (0f32, true);
    for (row, col) in places() {
        let value = at(row, col);
        is_finite &= value.is_finite();
        largest = largest.max(value.abs());
    }
    if !is_finite {
        return (square, f32::NAN);
    }
    let scale = largest / LARGEST;
    if scale == 0.0 {
        return (square, 0.0);
    }
    for (row, col) in places() {
        // The scale of tiny values is less exact than they are.
        let code = (at(row, col) / scale).round_ties_even();
        let code = code.clamp(-LARGEST, LARGEST) as i32;
        square.0[place(row, col)] = (code + OFFSET) as u8;
    }
    (square, scale)
}

/// A view of an [`Int8Matrix`], or of its transposed.
#[derive(Clone, Copy, Debug)]
pub struct Int8View<'a> {
    squares: &'a [Square],
    scales: &'a [f32],
    /// Of the matrix as it is stored; those of its rows are ones.
    of_rows: &'a [f32],
    of_columns: &'a [f32],
    /// From a square to the one on its right.
    down: usize,
    /// Of the matrix as it is stored.
    rows: usize,
    cols: usize,
    is_transposed: bool,
    keeps_outliers: bool,
}

impl<'a> Int8View<'a> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        if self.is_transposed {
            self.cols
        } else {
            self.rows
        }
    }

    /// How many columns there are.
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

    /// Whether it is transposed: the bytes are packed once more for a product.
    pub fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// The same, whose products round rows with outliers too: for rows of probabilities, which have
    /// hardly anything else.
    pub fn rounding_outliers(self) -> Self {
        Self {
            keeps_outliers: false,
            ..self
        }
    }

    /// Whether products leave rows with outliers in f32.
    pub fn keeps_outliers(&self) -> bool {
        self.keeps_outliers
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are not so many, or if the first of them is not the first of a square.
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
            "row {} is inside of a square",
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
                of_columns: &self.of_columns[rows.start..],
                cols: rows.len(),
                ..view
            }
        } else {
            Self {
                of_rows: &self.of_rows[rows.start..],
                rows: rows.len(),
                ..view
            }
        }
    }

    /// One value.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn at(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows() && col < self.cols());
        let square = self.number(row / SQUARE, col / SQUARE);
        let place = if self.is_transposed {
            place(col, row)
        } else {
            place(row, col)
        };
        let code = i32::from(self.squares[square].0[place]) - OFFSET;
        let factor = self.row_factors()[row] * self.column_factors()[col];
        code as f32 * self.scales[square] * factor
    }

    /// The values of a row.
    ///
    /// # Panics
    /// If there is none, or `out` is not as long.
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

    /// The factors of this view's rows, which inputs are multiplied by, filled up to whole squares.
    pub(super) fn row_factors(&self) -> &'a [f32] {
        if self.is_transposed {
            self.of_columns
        } else {
            self.of_rows
        }
    }

    /// The factors of this view's columns, which outputs are multiplied by, likewise.
    pub(super) fn column_factors(&self) -> &'a [f32] {
        if self.is_transposed {
            self.of_rows
        } else {
            self.of_columns
        }
    }

    /// The number of a square, counted in this view.
    fn number(&self, down: usize, across: usize) -> usize {
        if self.is_transposed {
            down * self.down + across
        } else {
            across * self.down + down
        }
    }

    /// A square, counted in this view, and the scales from its own on. Of a transposed matrix it holds
    /// what is transposed.
    pub(super) fn square(&self, down: usize, across: usize) -> (&'a Square, &'a [f32]) {
        let number = self.number(down, across);
        (&self.squares[number], &self.scales[number..])
    }

    /// From the number of a square to that of the one below, in this view.
    pub(super) fn block_stride(&self) -> usize {
        if self.is_transposed { self.down } else { 1 }
    }
}
