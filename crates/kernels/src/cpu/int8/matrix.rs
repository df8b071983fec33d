//! Matrices with one byte per value.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::rounding::{column_factors, gather, round_columns};
use super::{BLOCK, Int8View, SQUARE};
use crate::cpu::Matrix;

/// What is added to a value's code, an integer, to make its byte.
pub(super) const OFFSET: i32 = 128;

/// The largest integer that a value is rounded to.
pub(super) const LARGEST: f32 = 127.0;

/// Columns of a panel; a square has two, one after the other.
pub(super) const PANEL: usize = 32;

/// The bytes of a panel's part in a block.
pub(super) const PANEL_BYTES: usize = BLOCK * PANEL;

/// The bytes of a block of all columns of a square.
pub(super) const BLOCK_BYTES: usize = BLOCK * SQUARE;

/// The blocks of a row or a column of a square.
pub(super) const HALVES: usize = SQUARE / BLOCK;

/// The bytes of a square, as the tiles of a product read them: `[2 blocks of rows][2 panels][8][32
/// columns][4]`, four neighbours along the rows together.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Square(pub(super) [u8; SQUARE * SQUARE]);

/// The scales of a square, `[2 blocks of rows][64 columns]`, divided by the columns' factors.
pub(super) type Scales = [f16; HALVES * SQUARE];

/// The same, times the factors.
pub(super) type WideScales = [f32; HALVES * SQUARE];

impl Square {
    /// A square of zeros.
    pub const ZERO: Self = Self([OFFSET as u8; SQUARE * SQUARE]);
}

/// Where a value lies in its square.
#[inline]
pub(super) fn place(row: usize, col: usize) -> usize {
    let (row, col) = (row % SQUARE, col % SQUARE);
    let inside = row % BLOCK / 4 * 4 * PANEL + col % PANEL * 4 + row % 4;
    row / BLOCK * BLOCK_BYTES + col / PANEL * PANEL_BYTES + inside
}

/// A weight `[d_in, d_out]` with one byte per value. Every 32 neighbours along a column share a
/// scale in 16 bits, and every column has a factor that brings its scales into the range of 16
/// bits.
#[derive(Clone, Debug)]
pub struct Int8Matrix {
    /// The squares of the first 64 columns, then those of the next.
    pub(super) squares: Vec<Square>,
    /// The scales of each square.
    pub(super) scales: Vec<Scales>,
    /// The factors of the columns, padded to whole squares.
    pub(super) factors: Vec<f32>,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Int8Matrix {
    /// Rounds each value to the nearest of the 255 that its block's scale allows; of 64 scales, a
    /// block has the one that loses least. A block with a value that is not finite is all NaN. Values
    /// below 10⁻³⁴ may become zeros if their column has no larger ones.
    pub fn quantize(values: Matrix<'_, f32>) -> Self {
        let (rows, cols) = (values.rows(), values.cols());
        let factors = column_factors(values);
        let down = rows.div_ceil(SQUARE);
        let squares = (0..down * cols.div_ceil(SQUARE)).into_par_iter();
        let squares = squares.map(|at| {
            let (row, col) = (at % down * SQUARE, at / down * SQUARE);
            let part = values.some_rows(row..rows.min(row + SQUARE));
            let part = part.some_columns(col..cols.min(col + SQUARE));
            let mut columns = [[0.0; SQUARE]; SQUARE];
            gather(part, &mut columns);
            let (mut square, mut scales) = (Square::ZERO, [f16::ZERO; HALVES * SQUARE]);
            round_columns(&columns, &factors[col..], &mut square, &mut scales);
            (square, scales)
        });
        // Written in place: collecting parts would need the memory twice for a while.
        let mut into = (Vec::new(), Vec::new());
        squares.unzip_into_vecs(&mut into.0, &mut into.1);
        Self {
            squares: into.0,
            scales: into.1,
            factors,
            rows,
            cols,
        }
    }

    /// Takes a weight's codes and scales from `Q8_0` blocks as they are. The blocks run along one
    /// column of the matrix after the other; each has a scale in 16 bits, and 32 bytes for 32
    /// values.
    ///
    /// # Panics
    /// If `rows` is not a multiple of 32, or if there are more or fewer bytes than those of the
    /// blocks.
    pub fn from_q8_0(bytes: &[u8], rows: usize, cols: usize) -> Self {
        const BYTES: usize = 2 + BLOCK;
        assert!(
            rows.is_multiple_of(BLOCK),
            "{rows} rows are not whole blocks"
        );
        let blocks = rows / BLOCK;
        assert_eq!(bytes.len(), blocks * cols * BYTES);
        let down = rows.div_ceil(SQUARE);
        let squares = (0..down * cols.div_ceil(SQUARE)).into_par_iter();
        let squares = squares.map(|at| {
            let (first_block, first_col) = (at % down * HALVES, at / down * SQUARE);
            let (mut square, mut scales) = (Square::ZERO, [f16::ZERO; HALVES * SQUARE]);
            for col in first_col..cols.min(first_col + SQUARE) {
                for block in first_block..blocks.min(first_block + HALVES) {
                    let bytes = &bytes[(col * blocks + block) * BYTES..][..BYTES];
                    let at = block % HALVES * SQUARE + col % SQUARE;
                    scales[at] = f16::from_le_bytes([bytes[0], bytes[1]]);
                    for (row, four) in bytes[2..].chunks_exact(4).enumerate() {
                        let to = &mut square.0[place(block * BLOCK + 4 * row, col)..][..4];
                        // Adding the offset to a signed byte flips its highest bit.
                        to.iter_mut()
                            .zip(four)
                            .for_each(|(to, code)| *to = code ^ 0x80);
                    }
                }
            }
            (square, scales)
        });
        // Written in place, as in `quantize`.
        let mut into = (Vec::new(), Vec::new());
        squares.unzip_into_vecs(&mut into.0, &mut into.1);
        Self {
            squares: into.0,
            scales: into.1,
            factors: vec![1.0; cols.next_multiple_of(SQUARE)],
            rows,
            cols,
        }
    }

    /// The matrix as products read it.
    pub fn view(&self) -> Int8View<'_> {
        Int8View::new(self)
    }

    /// The number of rows, `d_in`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns, `d_out`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes that it takes, scales and factors included.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.squares) + size_of_val(&*self.scales) + size_of_val(&*self.factors)
    }

    /// The bytes of the squares: those of the first 64 columns, from the first rows to the last,
    /// then those of the next. Rows and columns that a square lacks are zeros.
    pub fn squares(&self) -> impl Iterator<Item = &[u8]> {
        self.squares.iter().map(|square| &square.0[..])
    }

    /// The bits of the scales of each square.
    pub fn scales(&self) -> impl Iterator<Item = &[u16]> {
        self.scales.iter().map(|scales| scales.reinterpret_cast())
    }

    /// The factor of each column, padded with ones to whole squares.
    pub fn column_factors(&self) -> &[f32] {
        &self.factors
    }
}
