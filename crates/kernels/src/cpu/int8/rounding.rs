//! Rounds weights in blocks along their columns.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::matrix::{LARGEST, OFFSET, PANEL, Scales, Square, WideScales, place};
use super::{BLOCK, SQUARE};
use crate::cpu::Matrix;
use crate::cpu::buffer::vectorised;

/// A column without larger values is treated as this large, so that the number its values are
/// divided by is exact.
const TINY: f32 = 1e-34;

/// The bits of the power of two below a positive number.
const EXPONENT: u32 = 0xff << 23;

/// Adding this to a number from -127 to 127 leaves the nearest integer in the low bits.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// A factor for each column, a power of two, which makes the largest scale of its blocks 1 to 4: values
/// that were rounded once are rounded to themselves. Padded with ones to whole squares. Values that are
/// not finite are ignored.
pub(super) fn column_factors(values: Matrix<'_, f32>) -> Vec<f32> {
    let mut factors = vec![1.0; values.cols().next_multiple_of(SQUARE)];
    for (factor, found) in factors.iter_mut().zip(largest_of_columns(values)) {
        let most = found.max(TINY) / LARGEST;
        *factor = f32::from_bits(most.to_bits() & EXPONENT);
    }
    factors
}

/// The largest magnitude of each column.
fn largest_of_columns(values: Matrix<'_, f32>) -> Vec<f32> {
    let (rows, columns) = (values.rows(), values.cols());
    let size = |value: f32| {
        let size = value.abs();
        if size.is_finite() { size } else { 0.0 }
    };
    let transposed = values.transposed();
    if transposed.has_contiguous_rows() {
        let columns = (0..columns).into_par_iter().with_min_len(SQUARE);
        let largest = |col| {
            let values = transposed.row(col).iter();
            values.fold(0.0, |most, &value| size(value).max(most))
        };
        return columns.map(largest).collect();
    }
    // Each piece of work takes some of the rows; then the largest of all is taken.
    let rows = (0..rows).into_par_iter().with_min_len(SQUARE);
    let of_row = |mut most: Vec<f32>, row: usize| {
        for (col, most) in most.iter_mut().enumerate() {
            *most = size(values.at(row, col)).max(*most);
        }
        most
    };
    let nothing = || vec![0.0; columns];
    rows.fold(nothing, of_row).reduce(nothing, |mut a, b| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = b.max(*a));
        a
    })
}

/// Copies the values of a square, column after column.
pub(super) fn gather(values: Matrix<'_, f32>, columns: &mut [[f32; SQUARE]; SQUARE]) {
    let transposed = values.transposed();
    if transposed.has_contiguous_rows() {
        for (col, column) in columns.iter_mut().enumerate().take(values.cols()) {
            column[..values.rows()].copy_from_slice(transposed.row(col));
        }
        return;
    }
    for row in 0..values.rows() {
        for (col, column) in columns.iter_mut().enumerate().take(values.cols()) {
            column[row] = values.at(row, col);
        }
    }
}

/// The scales of a square times its columns' factors.
pub(super) fn widened(scales: &Scales, factors: &[f32; SQUARE], to: &mut WideScales) {
    scales.convert_to_f32_slice(to);
    for half in to.as_chunks_mut::<SQUARE>().0 {
        for (scale, factor) in half.iter_mut().zip(factors) {
            *scale *= factor;
        }
    }
}

vectorised! {
    /// Rounds the columns of a square, and writes the scales of their blocks, divided by the
    /// columns' factors.
    pub(super) fn round_columns<'a>(
        columns: &'a [[f32; SQUARE]; SQUARE],
        factors: &'a [f32],
        square: &'a mut Square,
        scales: &'a mut Scales,
    ) {
        for (col, (column, factor)) in columns.iter().zip(factors).enumerate() {
            for (half, values) in column.as_chunks::<BLOCK>().0.iter().enumerate() {
                let codes;
                (codes, scales[half * SQUARE + col]) = rounded(values, *factor);
                for (group, four) in codes.as_chunks::<4>().0.iter().enumerate() {
                    let at = place(half * BLOCK + 4 * group, col);
                    square.0[at..at + 4].copy_from_slice(four);
                }
            }
        }
    }
}

/// How many scales are tried for a block.
const TRIED: usize = 64;

/// The bytes of a block, and its scale divided by the column's factor. The scales tried are those for
/// which the largest value is 127, 126, and so on down to 64; the one is taken that leaves the least
/// sum of squared errors. Any weights gain by that, and most those that have been in blocks of 4 bits:
/// some scale fits nearly all of their values.
#[inline(always)]
fn rounded(values: &[f32; BLOCK], factor: f32) -> ([u8; BLOCK], f16) {
    let mut bits = 0;
    for value in values {
        bits = bits.max(value.to_bits() & (u32::MAX >> 1));
    }
    let largest = f32::from_bits(bits);
    let nothing = [OFFSET as u8; BLOCK];
    if !largest.is_finite() {
        return (nothing, f16::NAN);
    }
    let (mut exact, mut halves) = ([0.0; TRIED], [f16::ZERO; TRIED]);
    for (at, exact) in exact.iter_mut().enumerate() {
        *exact = largest / (LARGEST - at as f32) / factor;
    }
    halves.convert_from_f32_slice(&exact);
    let mut relative = [0.0; TRIED];
    halves.convert_to_f32_slice(&mut relative);
    // The inverse of a smaller scale would not be finite.
    if relative[0] * factor < f32::MIN_POSITIVE {
        return (nothing, f16::ZERO);
    }
    let inverses = relative.map(|scale| (scale * factor).recip());
    let off = squares_off(values, &inverses);
    let (mut best, mut least) = (0, f32::INFINITY);
    for (at, (scale, off)) in relative.iter().zip(off).enumerate() {
        let error = scale * scale * off;
        if error < least {
            (best, least) = (at, error);
        }
    }
    let byte = |value: f32| (code(value, inverses[best]).to_bits() as u8) ^ 0x80;
    (values.map(byte), halves[best])
}

/// The integer of a value, in the low bits.
#[inline(always)]
fn code(value: f32, inverse: f32) -> f32 {
    // If a block is far below its column's largest, its scale is so inexact that values may exceed
    // it.
    (value * inverse).clamp(-LARGEST, LARGEST) + MAGIC
}

/// For each scale, by its inverse, the sum of the squared errors of rounding, in units of the scale.
#[inline(always)]
fn squares_off(values: &[f32; BLOCK], inverses: &[f32; TRIED]) -> [f32; TRIED] {
    let mut sums = [0.0; TRIED];
    for value in values {
        for (sum, inverse) in sums.iter_mut().zip(inverses) {
            let off = value * inverse - (code(*value, *inverse) - MAGIC);
            *sum += off * off;
        }
    }
    sums
}

/// Groups of four rows in a block.
const GROUPS: usize = BLOCK / 4;

vectorised! {
    /// Rounds a square once more, with a scale for every 32 columns of a row: `[2][64 rows]`.
    pub(super) fn round_again<'a>(
        from: &'a Square,
        scales: &'a WideScales,
        to: &'a mut Square,
        to_scales: &'a mut WideScales,
    ) {
        let groups = from.0.as_chunks::<{ 4 * PANEL }>().0;
        let to = to.0.as_chunks_mut::<{ 4 * PANEL }>().0;
        for (at, (from, to)) in groups.iter().zip(to).enumerate() {
            let (half, panel, group) = (at / (2 * GROUPS), at / GROUPS % 2, at % GROUPS);
            let scales = &scales[half * SQUARE + panel * PANEL..][..PANEL];
            let first_row = half * BLOCK + 4 * group;
            let mut words = [0u32; PANEL];
            for (word, bytes) in words.iter_mut().zip(from.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes) ^ 0x8080_8080;
            }
            let mut again = [0u32; PANEL];
            for place in 0..4 {
                let mut values = [0.0; PANEL];
                let mut bits = 0;
                for ((value, word), scale) in values.iter_mut().zip(words).zip(scales) {
                    let code = (word << (24 - 8 * place)) as i32 >> 24;
                    *value = code as f32 * scale;
                    bits = bits.max(value.to_bits() & (u32::MAX >> 1));
                }
                let (scale, inverse) = scale_of(bits);
                to_scales[panel * SQUARE + first_row + place] = scale;
                for (again, value) in again.iter_mut().zip(values) {
                    let code = (value * inverse + MAGIC).to_bits() & 0xff;
                    *again |= code << (8 * place);
                }
            }
            for (to, again) in to.as_chunks_mut::<4>().0.iter_mut().zip(again) {
                *to = (again ^ 0x8080_8080).to_le_bytes();
            }
        }
    }
}

/// A block whose largest value is smaller than this is rounded as if it were this: the inverse of a
/// smaller scale would not be finite.
pub(super) const SMALLEST: f32 = 1e-36;

/// The scale of a block and what its values are multiplied by, from the bits of its largest
/// magnitude; those of NaN are larger than all others.
#[inline(always)]
pub(super) fn scale_of(bits: u32) -> (f32, f32) {
    let largest = f32::from_bits(bits);
    // NaN stays NaN.
    let largest = if largest < SMALLEST {
        SMALLEST
    } else {
        largest
    };
    (largest / LARGEST, LARGEST / largest)
}
