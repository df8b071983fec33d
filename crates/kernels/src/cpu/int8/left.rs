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

/// How far a block of a row may stand above the typical one, which is their geometric mean: the bits of
/// 2⁴ less those of 1.
const FAR: u32 = 4 << 23;

/// Rows that a thread rounds at a time.
const ROWS: usize = 16;

/// Added to a number of -127 to 127, it leaves the nearest whole number in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// The memory of a left side.
#[derive(Default)]
pub(super) struct Memory {
    codes: Vec<i8>,
    notes: Vec<Note>,
    exact: Vec<[f32; SQUARE]>,
}

/// A matrix `[rows, k]` in eight bits.
pub(super) struct Left<'a> {
    /// `[rows][blocks][64]`, zero beyond `k`.
    pub codes: &'a [i8],
    /// `[rows][blocks]`.
    pub notes: &'a [Note],
    /// The rows and blocks that are not rounded, in order; their notes are zero.
    pub exact: Vec<(usize, usize)>,
    /// Their values, 64 each, zero beyond `k`.
    pub exact_values: &'a [[f32; SQUARE]],
    /// The blocks of a row.
    pub blocks: usize,
}

impl<'a> Left<'a> {
    /// Rounds a matrix, neither of whose sides is zero, with each column times its factor. Blocks far
    /// above their row's others are rounded or not; those with values that are not finite never are.
    pub fn new(
        a: Matrix<'_, f32>,
        factors: &[f32],
        keeps_outliers: bool,
        memory: &'a mut Memory,
    ) -> Self {
        let blocks = a.cols().div_ceil(SQUARE);
        let width = blocks * SQUARE;
        let Memory {
            codes,
            notes,
            exact,
        } = memory;
        let (codes, notes) = (
            room(codes, a.rows() * width, 0),
            room(notes, a.rows() * blocks, Note::default()),
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
                let mut limit = f32::MAX;
                round_row(values, factors, codes, notes, &mut limit);
                if !keeps_outliers {
                    limit = f32::MAX;
                }
                for (block, note) in notes.iter_mut().enumerate() {
                    if note.scale > limit / LARGEST || note.scale.is_nan() {
                        *note = Note::default();
                        kept.push((row, block));
                    }
                }
            }
            kept
        };
        let kept = if a.rows() <= ROWS {
            round(0, codes, notes)
        } else {
            let pieces = codes.par_chunks_mut(ROWS * width);
            let pieces = pieces.zip(notes.par_chunks_mut(ROWS * blocks)).enumerate();
            let pieces = pieces.map(|(piece, (codes, notes))| round(piece * ROWS, codes, notes));
            pieces.collect::<Vec<_>>().concat()
        };
        let values = room(exact, kept.len(), [0.0; SQUARE]);
        for (&(row, block), values) in kept.iter().zip(values.iter_mut()) {
            *values = std::array::from_fn(|place| {
                let col = block * SQUARE + place;
                if col < a.cols() {
                    a.at(row, col) * factors[col]
                } else {
                    0.0
                }
            });
        }
        Self {
            codes,
            notes,
            exact: kept,
            exact_values: values,
            blocks,
        }
    }

    /// How many rows have a block that is not rounded.
    pub fn exact_rows(&self) -> usize {
        self.exact.chunk_by(|a, b| a.0 == b.0).count()
    }

    /// Values from a row to the next.
    pub fn width(&self) -> usize {
        self.blocks * SQUARE
    }
}

/// The first `length` of what there is, which is made as large; what they hold is of no matter.
fn room<T: Copy>(memory: &mut Vec<T>, length: usize, nothing: T) -> &mut [T] {
    if memory.len() < length {
        memory.clear();
        memory.resize(length, nothing);
    }
    &mut memory[..length]
}

vectorised! {
    /// Rounds a row times the factors, and says above which size a block is far from the typical one.
    fn round_row<'a>(
        values: &'a [f32],
        factors: &'a [f32],
        codes: &'a mut [i8],
        notes: &'a mut [Note],
        limit: &'a mut f32,
    ) {
        // The bits of positive numbers have their order, and hold their logarithms.
        let (mut sum, mut count) = (0u64, 0);
        let (codes, _) = codes.as_chunks_mut::<SQUARE>();
        let blocks = values.chunks(SQUARE).zip(factors.as_chunks::<SQUARE>().0);
        for (((values, factors), codes), note) in blocks.zip(codes).zip(notes) {
            let mut block = [0.0; SQUARE];
            if let Some(values) = values.as_array::<SQUARE>() {
                for ((block, value), factor) in block.iter_mut().zip(values).zip(factors) {
                    *block = value * factor;
                }
            } else {
                for ((block, value), factor) in block.iter_mut().zip(values).zip(factors) {
                    *block = value * factor;
                }
            }
            let bits = round_block(&block, codes, note);
            if bits > TINY.to_bits() {
                sum += u64::from(bits);
                count += 1;
            }
        }
        if let Some(typical) = sum.checked_div(count) {
            *limit = f32::from_bits((typical as u32 + FAR).min(f32::MAX.to_bits()));
        }
    }
}

/// Rounds a block; the bits of its largest magnitude, of which NaN has the most.
#[inline(always)]
fn round_block(values: &[f32; SQUARE], codes: &mut [i8; SQUARE], note: &mut Note) -> u32 {
    let mut bits = 0;
    for value in values {
        bits = bits.max(value.to_bits() & (u32::MAX >> 1));
    }
    let largest = f32::from_bits(bits);
    // NaN stays what it is.
    let largest = if largest < TINY { TINY } else { largest };
    let inverse = LARGEST / largest;
    let mut sum = 0u32;
    for (code, value) in codes.iter_mut().zip(values) {
        // Of what is not finite comes anything, which is not looked at.
        let whole = (value * inverse + MAGIC)
            .to_bits()
            .wrapping_sub(MAGIC.to_bits());
        *code = whole as i8;
        sum = whole.wrapping_add(sum);
    }
    *note = Note {
        scale: largest / LARGEST,
        start: (sum as i32).wrapping_mul(-OFFSET),
    };
    bits
}
