//! Tiles of rows that the units of a cube share, and products of two of them.
//!
//! A cube has 8 by 8 units. A tile of scores has 32 rows and 32 columns, of which each unit holds 4 by 4.
//! The sums have 32 rows as wide as a head, of which each unit holds 4 rows of every eighth column.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::shape::Shape;

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

/// Rows of a matrix, and the column where the head begins whose values are read or written.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Rows {
    /// The first row, and how many follow from there.
    pub first: usize,
    pub count: usize,
    pub column: usize,
}

#[cube]
impl Rows {
    pub fn new(first: usize, count: usize, column: usize) -> Self {
        Rows {
            first,
            count,
            column,
        }
    }
}

/// What the units of a cube share.
#[derive(CubeType)]
pub(super) struct Tiles {
    /// Rows of two matrices, whose products are the scores.
    left: Shared<[f32]>,
    right: Shared<[f32]>,
    /// The weights of a tile.
    weights: Shared<[f32]>,
}

#[cube]
impl Tiles {
    pub fn new(#[comptime] chunk: usize) -> Self {
        Tiles {
            left: Shared::<[f32]>::new_slice(comptime!(chunk * PITCH)),
            right: Shared::<[f32]>::new_slice(comptime!(chunk * PITCH)),
            weights: Shared::<[f32]>::new_slice(comptime!(ROWS * PITCH)),
        }
    }
}

/// Copies `width` columns of a head, from column `at` on, to shared memory, column after column. All
/// other values of the tile are zeros.
#[cube]
fn load<F: Float>(
    from: &Tensor<F>,
    tile: &mut Shared<[f32]>,
    rows: &Rows,
    #[comptime] at: usize,
    #[comptime] width: usize,
    #[comptime] chunk: usize,
) {
    let stride = from.stride(0);
    let column = rows.column + at;
    let mut i = UNIT_POS_X as usize;
    while i < comptime!(ROWS * chunk) {
        let (d, r) = (i % chunk, i / chunk);
        let mut value = f32::new(0.0);
        if d < width && r < rows.count {
            value = f32::cast_from(from[(rows.first + r) * stride + column + d]);
        }
        tile[d * PITCH + r] = value;
        i += UNITS;
    }
}

/// Adds to scores the products of rows of two matrices over the columns of a head.
#[cube]
pub(super) fn add_products<F: Float>(
    left: &Tensor<F>,
    left_rows: &Rows,
    right: &Tensor<F>,
    right_rows: &Rows,
    tiles: &mut Tiles,
    scores: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let chunk = comptime!(shape.chunk);
    let parts = comptime!(shape.parts());
    #[unroll]
    for part in 0..parts {
        let at = comptime!(part * chunk);
        let width = comptime!(shape.width(part));
        load(left, &mut tiles.left, left_rows, at, width, chunk);
        load(right, &mut tiles.right, right_rows, at, width, chunk);
        sync_cube();
        add_scores(&tiles.left, &tiles.right, scores, width);
        sync_cube();
    }
}

/// Adds rows of a matrix, each weighted for every row of a tile, to the sums of a head's columns.
#[cube]
pub(super) fn add_weighted_rows<F: Float>(
    weights: &Array<f32>,
    values: &Tensor<F>,
    rows: &Rows,
    tiles: &mut Tiles,
    sums: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let chunk = comptime!(shape.chunk);
    let parts = comptime!(shape.parts());
    share(weights, &mut tiles.weights);
    #[unroll]
    for part in 0..parts {
        let at = comptime!(part * chunk);
        let width = comptime!(shape.width(part));
        load(values, &mut tiles.right, rows, at, width, chunk);
        sync_cube();
        add_weighted(&tiles.weights, &tiles.right, sums, part, chunk);
        sync_cube();
    }
}

/// Adds the products of rows of two tiles over their first `width` columns.
#[cube]
fn add_scores(
    left: &Shared<[f32]>,
    right: &Shared<[f32]>,
    scores: &mut Array<f32>,
    #[comptime] width: usize,
) {
    let (row, column) = (first_row(), place() * EACH);
    let mut a = Array::<f32>::new(EACH);
    let mut b = Array::<f32>::new(EACH);
    for d in 0..width {
        #[unroll]
        for i in 0..EACH {
            a[i] = left[d * PITCH + row + i];
            b[i] = right[d * PITCH + column + i];
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
fn add_weighted(
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

/// Writes the sums of a head's columns, each row's times a factor.
#[cube]
pub(super) fn store<F: Float>(
    to: &mut Tensor<F>,
    sums: &Array<f32>,
    factors: &Array<f32>,
    rows: &Rows,
    #[comptime] width: usize,
) {
    let stride = to.stride(0);
    let first = first_row();
    #[unroll]
    for j in 0..comptime!(width.div_ceil(SIDE)) {
        let d = j * SIDE + place();
        #[unroll]
        for i in 0..EACH {
            if d < width && first + i < rows.count {
                let value = sums[j * EACH + i] * factors[i];
                let at = (rows.first + first + i) * stride + rows.column + d;
                to[at] = F::cast_from(value);
            }
        }
    }
}

/// Puts scores into shared memory, row after row.
#[cube]
fn share(scores: &Array<f32>, tile: &mut Shared<[f32]>) {
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
