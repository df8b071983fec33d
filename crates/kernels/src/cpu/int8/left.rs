//! Rows of activations in eight bits.

use rayon::prelude::*;

use super::body::Body;
use super::matrix::OFFSET;
use super::rounding::{MAGIC, SMALLEST, scale_of};
use super::{BLOCK, Limit, SQUARE};
use crate::cpu::Matrix;
use crate::cpu::buffer::vectorised;
use crate::cpu::low_rank::Beside;

/// A rounded block of activations without its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
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

/// How many rows one task rounds: two tiles of LoRA's product.
const ROWS: usize = 24;

/// How many blocks are rounded together, so that their scales are divided in vectors.
pub(super) const AT_ONCE: usize = 16;

/// The bits of the largest magnitudes of a row's blocks, which are nearly logarithms: of all together, and
/// the sum and the number of those that are not taken for zeros.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sizes {
    pub largest: u32,
    pub sum: u64,
    pub count: u64,
}

impl Sizes {
    /// How large a block may be next to the typical one.
    fn limit(&self) -> f32 {
        let typical = self.sum.checked_div(self.count);
        let far = typical.map(|typical| (typical as u32 + FAR).min(f32::MAX.to_bits()));
        far.map_or(f32::MAX, f32::from_bits)
    }
}

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
    /// Where those of each block begin, and where the last end.
    starts: Vec<usize>,
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
        body: &Body,
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
            let mut sizes = vec![Sizes::default(); count];
            let are_whole = a.has_contiguous_rows() && [a.cols(), a.row_stride()] == [width; 2];
            if are_whole {
                let values = &a.data()[first * width..][..count * width];
                (body.round_rows)(values, codes, notes, &mut sizes);
            }
            let rows = codes
                .chunks_exact_mut(width)
                .zip(notes.chunks_exact_mut(blocks));
            for ((row, (codes, notes)), sizes) in rows.enumerate().zip(&mut sizes) {
                let row = first + row;
                let values = if a.has_contiguous_rows() {
                    a.row(row)
                } else {
                    gathered.clear();
                    gathered.extend((0..a.cols()).map(|col| a.at(row, col)));
                    &gathered
                };
                if !are_whole {
                    (body.round_rows)(values, codes, notes, std::slice::from_mut(sizes));
                }
                let most = match limit {
                    Limit::Relative => sizes.limit(),
                    // Where all words are about as likely, none has a rest.
                    Limit::Probability => sizes.limit().max(LIKELY),
                };
                if sizes.largest > most.to_bits() {
                    add_rests(row, values, codes, notes, most, &mut rests);
                }
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
        let mut starts = vec![0; blocks + 1];
        for rest in &rests {
            starts[rest.block + 1] += 1;
        }
        for block in 0..blocks {
            starts[block + 1] += starts[block];
        }
        Self {
            codes,
            notes,
            rests,
            starts,
            blocks,
        }
    }

    /// How many codes a row has.
    pub fn width(&self) -> usize {
        self.blocks * BLOCK
    }

    /// The rests of one block along k, in some of the rows.
    pub fn rests(&self, block: usize, rows: &std::ops::Range<usize>) -> &[Rest] {
        let rests = &self.rests[self.starts[block]..self.starts[block + 1]];
        let place = |row| rests.partition_point(|rest| rest.row < row);
        &rests[place(rows.start)..place(rows.end)]
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

/// Rounds rows, for any processor.
pub(super) fn round_rows(
    values: &[f32],
    codes: &mut [i8],
    notes: &mut [Note],
    sizes: &mut [Sizes],
) {
    let rows = sizes.len().max(1);
    let lengths = [values.len(), codes.len(), notes.len()].map(|all| (all / rows).max(1));
    let rows = codes
        .chunks_mut(lengths[1])
        .zip(notes.chunks_mut(lengths[2]));
    let rows = rows.zip(values.chunks(lengths[0])).zip(sizes);
    for (((codes, notes), values), sizes) in rows {
        *sizes = Sizes::default();
        round_blocks(values, codes, notes, sizes);
    }
}

vectorised! {
    fn round_blocks<'a>(
        values: &'a [f32],
        codes: &'a mut [i8],
        notes: &'a mut [Note],
        sizes: &'a mut Sizes,
    ) {
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
                sizes.largest = sizes.largest.max(*bits);
                if *bits > SMALLEST.to_bits() {
                    sizes.sum += u64::from(*bits);
                    sizes.count += 1;
                }
            }
            let mut scales = [(0.0, 0.0); AT_ONCE];
            for (scale, bits) in scales.iter_mut().zip(largest) {
                *scale = scale_of(bits);
            }
            let blocks = blocks(piece * AT_ONCE).zip(scales);
            for ((codes, note), (values, scale)) in codes.iter_mut().zip(notes).zip(blocks) {
                *note = round_block(values, scale, codes);
            }
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
