//! Tiles of rows that the units of a cube share, and products of two of them.
//!
//! A cube has 8 by 8 units. A tile of scores has 32 rows and 32 columns, of which each unit holds 4 by 4.
//! The sums have 32 rows as wide as a head, of which each unit holds 4 rows of every eighth column.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// The rows of a tile: queries or keys.
pub(in crate::gpu) const ROWS: usize = 32;

/// Rows, or columns, of scores that a unit holds.
pub(super) const EACH: usize = 4;

/// How many units hold the same rows.
pub(super) const SIDE: usize = ROWS / EACH;

/// The units of a cube.
pub(super) const UNITS: usize = SIDE * SIDE;

/// Scores that a unit holds.
pub(super) const SCORES: usize = EACH * EACH;

/// The distance from one row of a tile to the next in shared memory: odd, so that neighbours lie in
/// different banks.
pub(super) const PITCH: usize = ROWS + 1;

/// How many columns of a head are in shared memory at once, if that has `shared_memory` bytes.
pub(super) fn chunk(head_dim: usize, shared_memory: usize) -> usize {
    let of_tiles = |chunk: usize| 4 * PITCH * (2 * chunk + ROWS + SIDE);
    if head_dim > 32 && of_tiles(64) <= shared_memory {
        64
    } else {
        32
    }
}

/// The first row of those that a unit holds.
#[cube]
pub(super) fn first_row() -> usize {
    UNIT_POS_X as usize / SIDE * EACH
}

/// The place of a unit among those that hold the same rows.
#[cube]
pub(super) fn place() -> usize {
    UNIT_POS_X as usize % SIDE
}

/// Takes `width` columns from `column` on of `count` rows from `row` on to shared memory, column
/// after column, with zeros around.
#[cube]
pub(super) fn load<F: Float>(
    from: &Tensor<F>,
    tile: &mut Shared<[f32]>,
    row: usize,
    count: usize,
    column: usize,
    #[comptime] width: usize,
    #[comptime] chunk: usize,
) {
    let stride = from.stride(0);
    let mut at = UNIT_POS_X as usize;
    while at < comptime!(ROWS * chunk) {
        let (d, r) = (at % chunk, at / chunk);
        let mut value = f32::new(0.0);
        if d < width && r < count {
            value = f32::cast_from(from[(row + r) * stride + column + d]);
        }
        tile[d * PITCH + r] = value;
        at += UNITS;
    }
}

/// Adds the products of rows of two tiles over their first `width` columns.
#[cube]
pub(super) fn add_scores(
    rows: &Shared<[f32]>,
    columns: &Shared<[f32]>,
    scores: &mut Array<f32>,
    #[comptime] width: usize,
) {
    let (row, column) = (first_row(), place() * EACH);
    let mut a = Array::<f32>::new(EACH);
    let mut b = Array::<f32>::new(EACH);
    for d in 0..width {
        #[unroll]
        for i in 0..EACH {
            a[i] = rows[d * PITCH + row + i];
            b[i] = columns[d * PITCH + column + i];
        }
        #[unroll]
        for i in 0..EACH {
            #[unroll]
            for j in 0..EACH {
                scores[i * EACH + j] += a[i] * b[j];
            }
        }
    }
}

/// Adds a tile of weighted values to the sums of its columns, which begin at `part * chunk`.
#[cube]
pub(super) fn add_weighted(
    weights: &Shared<[f32]>,
    values: &Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] part: usize,
    #[comptime] chunk: usize,
) {
    let (row, column) = (first_row(), place());
    let columns = comptime!(chunk / SIDE);
    let mut a = Array::<f32>::new(EACH);
    for k in 0..ROWS {
        #[unroll]
        for i in 0..EACH {
            a[i] = weights[(row + i) * PITCH + k];
        }
        #[unroll]
        for j in 0..columns {
            let value = values[(column + j * SIDE) * PITCH + k];
            #[unroll]
            for i in 0..EACH {
                sums[(part * columns + j) * EACH + i] += a[i] * value;
            }
        }
    }
}

/// Writes sums, times a factor for each row, to the columns from `column` on of `count` rows from `row` on.
#[cube]
pub(super) fn store<F: Float>(
    to: &mut Tensor<F>,
    sums: &Array<f32>,
    factors: &Array<f32>,
    row: usize,
    count: usize,
    column: usize,
    #[comptime] width: usize,
) {
    let stride = to.stride(0);
    let first = first_row();
    #[unroll]
    for j in 0..comptime!(width.div_ceil(SIDE)) {
        let d = j * SIDE + place();
        #[unroll]
        for i in 0..EACH {
            if d < width && first + i < count {
                let value = sums[j * EACH + i] * factors[i];
                to[(row + first + i) * stride + column + d] = F::cast_from(value);
            }
        }
    }
}

/// Puts scores into shared memory, row after row.
#[cube]
pub(super) fn share(scores: &Array<f32>, tile: &mut Shared<[f32]>) {
    let (row, column) = (first_row(), place() * EACH);
    #[unroll]
    for i in 0..EACH {
        #[unroll]
        for j in 0..EACH {
            tile[(row + i) * PITCH + column + j] = scores[i * EACH + j];
        }
    }
}

/// Gives the units that hold the same rows the sums, or the maxima, of their values.
#[cube]
pub(super) fn reduce(parts: &mut Array<f32>, shared: &mut Shared<[f32]>, #[comptime] sum: bool) {
    let (row, place) = (first_row(), place());
    #[unroll]
    for i in 0..EACH {
        shared[place * PITCH + row + i] = parts[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..EACH {
        let mut whole = shared[row + i];
        #[unroll]
        for other in 1..SIDE {
            let part = shared[other * PITCH + row + i];
            if sum {
                whole += part;
            } else {
                whole = max(whole, part);
            }
        }
        parts[i] = whole;
    }
}

/// Sets an array to zero.
#[cube]
pub(super) fn clear(values: &mut Array<f32>, #[comptime] count: usize) {
    #[unroll]
    for i in 0..count {
        values[i] = f32::new(0.0);
    }
}
