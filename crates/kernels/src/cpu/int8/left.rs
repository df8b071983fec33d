//! Rows of activations in eight bits.

use rayon::prelude::*;

use super::SQUARE;
use super::matrix::{LARGEST, OFFSET};
use crate::cpu::Matrix;
use crate::cpu::buffer::vectorised;

/// What else is known of a block of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Note {
    /// What its whole numbers are multiplied by.
    pub scale: f32,
    /// What a sum of products with a weight's bytes starts from, since those are too large by the
    /// offset.
    pub start: i32,
}

/// A block whose largest value is smaller than that is rounded as if it were this: the inverse of a
/// smaller scale is no number.
const TINY: f32 = 1e-36;

/// How far the largest block of a row may stand above its typical one, which is their geometric mean:
/// the bits of 2⁵ less those of 1.
const FAR: u32 = 5 << 23;

/// Rows that a thread rounds at a time.
const ROWS: usize = 16;

/// Added to a number of -127 to 127, it leaves the nearest whole number in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// The memory of a left side.
#[derive(Default)]
pub(super) struct Memory {
    codes: Vec<i8>,
    notes: Vec<Note>,
    exact: Vec<f32>,
}

/// A matrix `[rows, k]` in eight bits.
pub(super) struct Left<'a> {
    /// `[rows][blocks][64]`, zero beyond `k`.
    pub codes: &'a [i8],
    /// `[rows][blocks]`.
    pub notes: &'a [Note],
    /// The rows that are not rounded, in order; their notes are zero.
    pub exact_rows: Vec<usize>,
    /// Their values, `[blocks][64]` each, zero beyond `k`.
    pub exact: &'a [f32],
    /// The blocks of a row.
    pub blocks: usize,
}

impl<'a> Left<'a> {
    /// Rounds a matrix, neither of whose sides is zero. Rows with outliers are rounded or not; rows with
    /// values that are not finite never are.
    pub fn new(a: Matrix<'_, f32>, keeps_outliers: bool, memory: &'a mut Memory) -> Self {
        let blocks = a.cols().div_ceil(SQUARE);
        let width = blocks * SQUARE;
        let Memory {
            codes,
            notes,
            exact,
        } = memory;
        let (codes, notes) = (
            room(codes, a.rows() * width),
            room(notes, a.rows() * blocks),
        );
        let round = |first: usize, codes: &mut [i8], notes: &mut [Note]| {
            let (mut kept, mut loose) = (Vec::new(), Vec::new());
            let rows = codes
                .chunks_exact_mut(width)
                .zip(notes.chunks_exact_mut(blocks));
            for (row, (codes, notes)) in rows.enumerate() {
                let row = first + row;
                let values = if a.has_contiguous_rows() {
                    a.row(row)
                } else {
                    loose.clear();
                    loose.extend((0..a.cols()).map(|col| a.at(row, col)));
                    &loose
                };
                let mut is_exact = false;
                round_row(values, codes, notes, keeps_outliers, &mut is_exact);
                if is_exact {
                    notes.fill(Note::default());
                    kept.push(row);
                }
            }
            kept
        };
        let exact_rows = if a.rows() <= ROWS {
            round(0, codes, notes)
        } else {
            let pieces = codes.par_chunks_mut(ROWS * width);
            let pieces = pieces.zip(notes.par_chunks_mut(ROWS * blocks)).enumerate();
            let pieces = pieces.map(|(piece, (codes, notes))| round(piece * ROWS, codes, notes));
            pieces.collect::<Vec<_>>().concat()
        };
        let exact = room(exact, exact_rows.len() * width);
        for (&row, exact) in exact_rows.iter().zip(exact.chunks_exact_mut(width)) {
            exact[a.cols()..].fill(0.0);
            (exact[..a.cols()].iter_mut().enumerate()).for_each(|(col, to)| *to = a.at(row, col));
        }
        Self {
            codes,
            notes,
            exact_rows,
            exact,
            blocks,
        }
    }

    /// Values from a row to the next.
    pub fn width(&self) -> usize {
        self.blocks * SQUARE
    }
}

/// The first `length` of what there is, which is made as large; what they hold is of no matter.
fn room<T: Clone + Default>(memory: &mut Vec<T>, length: usize) -> &mut [T] {
    if memory.len() < length {
        memory.clear();
        memory.resize(length, T::default());
    }
    &mut memory[..length]
}

vectorised! {
    /// Rounds a row, and says whether it should not be.
    fn round_row<'a>(
        values: &'a [f32],
        codes: &'a mut [i8],
        notes: &'a mut [Note],
        keeps_outliers: bool,
        is_exact: &'a mut bool,
    ) {
        // The bits of positive numbers have their order, and hold their logarithms.
        let (mut most, mut sum, mut count) = (0, 0u64, 0);
        let (codes, _) = codes.as_chunks_mut::<SQUARE>();
        for ((values, codes), note) in values.chunks(SQUARE).zip(codes).zip(notes) {
            let mut padded = [0.0; SQUARE];
            let block = values.as_array::<SQUARE>().unwrap_or_else(|| {
                padded[..values.len()].copy_from_slice(values);
                &padded
            });
            let bits = round_block(block, codes, note);
            most = bits.max(most);
            if bits > TINY.to_bits() {
                sum += u64::from(bits);
                count += 1;
            }
        }
        let typical = sum.checked_div(count).unwrap_or(0) as u32;
        let has_outlier = count > 0 && most - typical > FAR;
        *is_exact = most >= f32::INFINITY.to_bits() || keeps_outliers && has_outlier;
    }
}

/// Rounds a block; the bits of its largest magnitude, of which NaN has the most.
#[inline(always)]
fn round_block(values: &[f32; SQUARE], codes: &mut [i8; SQUARE], note: &mut Note) -> u32 {
    let mut bits = 0;
    for value in values {
        bits = bits.max(value.to_bits() & (u32::MAX >> 1));
    }
    let largest = f32::from_bits(bits).max(TINY);
    let inverse = LARGEST / largest;
    let mut sum = 0;
    for (code, value) in codes.iter_mut().zip(values) {
        let whole = (value * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
        *code = whole as i8;
        sum += whole;
    }
    *note = Note {
        scale: largest / LARGEST,
        start: -OFFSET * sum,
    };
    bits
}
