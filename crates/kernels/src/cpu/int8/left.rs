//! Rows of activations in eight bits.

use rayon::prelude::*;

use super::matrix::OFFSET;
use super::rounding::{MAGIC, SMALLEST, scale_of};
use super::{BLOCK, Limit, SQUARE};
use crate::cpu::Matrix;
use crate::cpu::buffer::vectorised;
use crate::cpu::low_rank::Beside;

/// A rounded block of activations without its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Note {
    /// What its codes are multiplied by.
    pub scale: f32,
    /// What a sum of products with a weight's bytes starts from. Each byte is a code plus the
    /// offset, and this subtracts the offsets again.
    pub start: i32,
}

/// How much larger than the typical block of its row a block may be without a rest: 2^2.5 times.
/// The typical size is the geometric mean. The bits of an f32 are nearly its logarithm, so this is
/// a difference of bits.
const FAR: u32 = 5 << 22;

/// How large a block of probabilities may be without a rest; probabilities are at most 1.
const LIKELY: f32 = 1.0 / 16.0;

/// How many rows one task rounds.
const ROWS: usize = 16;

/// How many blocks are rounded together, so that their scales are divided in vectors.
const AT_ONCE: usize = 16;

/// Memory for the codes and notes of a [`Left`], kept from call to call.
#[derive(Default)]
pub(super) struct Memory {
    codes: Vec<i8>,
    notes: Vec<Note>,
}

/// The left side of a product: activations `[rows, k]`, rounded to eight bits.
pub(super) struct Left<'a> {
    /// `[rows][blocks][32]`, zero beyond `k`.
    pub codes: &'a [i8],
    /// `[rows][blocks]`.
    pub notes: &'a [Note],
    /// The rests of the blocks above the limit, sorted by block, then by row.
    pub rests: Vec<Rest>,
    /// How many blocks a row has: those of whole squares.
    pub blocks: usize,
}

/// The rounding error of a block above the limit, as another block in eight bits: together the two
/// have 16 bits. A tile steps through these as through notes, so this size must be a multiple of a
/// note's.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Rest {
    pub block: usize,
    pub row: usize,
    pub codes: [i8; BLOCK],
    pub note: Note,
}

impl<'a> Left<'a> {
    /// Rounds a matrix, neither of whose sides is zero, with rests for the blocks above the limit.
    /// The low-rank product `beside` reads each row right after that, while it is in the cache.
    pub fn new(
        a: Matrix<'_, f32>,
        limit: Limit,
        beside: Option<&Beside<'_>>,
        memory: &'a mut Memory,
    ) -> Self {
        let width = a.cols().next_multiple_of(SQUARE);
        let blocks = width / BLOCK;
        let (codes, notes) = (
            room(&mut memory.codes, a.rows() * width, 0),
            room(&mut memory.notes, a.rows() * blocks, Note::default()),
        );
        let round = |first: usize, codes: &mut [i8], notes: &mut [Note]| {
            let (mut rests, mut gathered) = (Vec::new(), Vec::new());
            let count = codes.len() / width;
            let rows = codes
                .chunks_exact_mut(width)
                .zip(notes.chunks_exact_mut(blocks));
            for (row, (codes, notes)) in rows.enumerate() {
                let row = first + row;
                let values = if a.has_contiguous_rows() {
                    a.row(row)
                } else {
                    gathered.clear();
                    gathered.extend((0..a.cols()).map(|col| a.at(row, col)));
                    &gathered
                };
                let mut far = f32::MAX;
                round_row(values, codes, notes, &mut far);
                let largest = match limit {
                    Limit::Relative => far,
                    // Where all words are about as likely, none has a rest.
                    Limit::Probability => far.max(LIKELY),
                };
                add_rests(row, values, codes, notes, largest, &mut rests);
            }
            if let Some(beside) = beside {
                // SAFETY: no other piece has these rows.
                unsafe { beside.rows(first..first + count) };
            }
            rests
        };
        let mut rests = if a.rows() <= ROWS {
            round(0, codes, notes)
        } else {
            let pieces = codes.par_chunks_mut(ROWS * width);
            let pieces = pieces.zip(notes.par_chunks_mut(ROWS * blocks)).enumerate();
            let pieces = pieces.map(|(piece, (codes, notes))| round(piece * ROWS, codes, notes));
            pieces.collect::<Vec<_>>().concat()
        };
        // The sort is stable, and the rows are in order already.
        rests.sort_by_key(|rest: &Rest| rest.block);
        Self {
            codes,
            notes,
            rests,
            blocks,
        }
    }

    /// How many codes a row has.
    pub fn width(&self) -> usize {
        self.blocks * BLOCK
    }

    /// The rests of one block along k, in some of the rows.
    pub fn rests(&self, block: usize, rows: &std::ops::Range<usize>) -> &[Rest] {
        let place = |row| {
            let before = |rest: &Rest| (rest.block, rest.row) < (block, row);
            self.rests.partition_point(before)
        };
        &self.rests[place(rows.start)..place(rows.end)]
    }
}

/// The first `length` elements of a vector, which grows if it must. They may hold anything.
fn room<T: Copy>(memory: &mut Vec<T>, length: usize, nothing: T) -> &mut [T] {
    if memory.len() < length {
        memory.clear();
        memory.resize(length, nothing);
    }
    &mut memory[..length]
}

/// Adds the rests of a row's blocks that are larger than a limit.
fn add_rests(
    row: usize,
    values: &[f32],
    codes: &[i8],
    notes: &[Note],
    limit: f32,
    rests: &mut Vec<Rest>,
) {
    let limit = scale_of(limit.to_bits()).0;
    for (block, note) in notes.iter().enumerate() {
        if note.scale > limit {
            let first = block * BLOCK;
            let mut taken = [0.0; BLOCK];
            let values = values[first..].iter().zip(&codes[first..]);
            for (taken, (value, code)) in taken.iter_mut().zip(values) {
                *taken = value - f32::from(*code) * note.scale;
            }
            let mut codes = [0; BLOCK];
            let note = round_block(&taken, scale_of(largest_bits(&taken)), &mut codes);
            rests.push(Rest {
                block,
                row,
                codes,
                note,
            });
        }
    }
}

vectorised! {
    /// Rounds a row, and sets `limit` to the size above which a block is far from the typical one.
    fn round_row<'a>(
        values: &'a [f32],
        codes: &'a mut [i8],
        notes: &'a mut [Note],
        limit: &'a mut f32,
    ) {
        // The bits of positive numbers are in the order of the numbers, and nearly their
        // logarithms.
        let (mut sum, mut count) = (0u64, 0);
        let (codes, _) = codes.as_chunks_mut::<BLOCK>();
        let (whole, part) = values.as_chunks::<BLOCK>();
        let mut last = [0.0; BLOCK];
        last[..part.len()].copy_from_slice(part);
        let blocks = |first: usize| {
            let blocks = whole[first.min(whole.len())..].iter().chain([&last, &[0.0; BLOCK]]);
            blocks.take(AT_ONCE)
        };
        // Several blocks at a time, so that their scales are divided in vectors.
        let pieces = codes.chunks_mut(AT_ONCE).zip(notes.chunks_mut(AT_ONCE));
        for (piece, (codes, notes)) in pieces.enumerate() {
            let mut largest = [0; AT_ONCE];
            for ((bits, values), _) in largest.iter_mut().zip(blocks(piece * AT_ONCE)).zip(&*notes) {
                *bits = largest_bits(values);
                if *bits > SMALLEST.to_bits() {
                    sum += u64::from(*bits);
                    count += 1;
                }
            }
            let scales = largest.map(scale_of);
            let blocks = blocks(piece * AT_ONCE).zip(scales);
            for ((codes, note), (values, scale)) in codes.iter_mut().zip(notes).zip(blocks) {
                *note = round_block(values, scale, codes);
            }
        }
        if let Some(typical) = sum.checked_div(count) {
            *limit = f32::from_bits((typical as u32 + FAR).min(f32::MAX.to_bits()));
        }
    }
}

/// The bits of a block's largest magnitude; those of NaN are larger than all others.
#[inline(always)]
fn largest_bits(values: &[f32; BLOCK]) -> u32 {
    let mut bits = 0;
    for value in values {
        bits = bits.max(value.to_bits() & (u32::MAX >> 1));
    }
    bits
}

/// Rounds a block. If a value is not finite, the whole block is NaN.
#[inline(always)]
fn round_block(
    values: &[f32; BLOCK],
    (scale, inverse): (f32, f32),
    codes: &mut [i8; BLOCK],
) -> Note {
    let mut sum = 0u32;
    for (code, value) in codes.iter_mut().zip(values) {
        // A value that is not finite gives a meaningless code, which the scale makes NaN.
        let whole = (value * inverse + MAGIC)
            .to_bits()
            .wrapping_sub(MAGIC.to_bits());
        *code = whole as i8;
        sum = whole.wrapping_add(sum);
    }
    Note {
        scale: if scale == f32::INFINITY {
            f32::NAN
        } else {
            scale
        },
        start: (sum as i32).wrapping_mul(-OFFSET),
    }
}
