//! Products of matrices of which one side is short: a workgroup computes one tile of the result.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::mask::{Mask, factor};

/// Rows and columns of a tile; each value has a unit.
pub(crate) const TILE: usize = 16;
/// How much of the sum is in shared memory at once.
const DEPTH: usize = 32;

/// A workgroup with a unit for each value of a tile.
pub(crate) fn tile_units() -> CubeDim {
    CubeDim::new_2d(TILE as u32, TILE as u32)
}

/// How many tiles cover `rows` by `columns`.
#[cube]
pub(crate) fn tiles(rows: usize, columns: usize) -> usize {
    rows.div_ceil(TILE) * columns.div_ceil(TILE)
}

/// How a factor lies in memory, and whether dropout acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lies {
    /// Whether neighbouring values belong to neighbouring steps of the sum; otherwise they belong to
    /// neighbouring rows or columns of the result.
    pub along_sum: bool,
    /// Whether dropout acts on its values.
    pub drops: bool,
}

/// A factor's value for row or column `at` of the result and step `depth` of the sum.
#[cube]
fn read<F: Float>(
    values: &[F],
    at: usize,
    depth: usize,
    side: usize,
    sum: usize,
    mask: &Mask,
    #[comptime] lies: Lies,
) -> f32 {
    let mut row = depth;
    let mut column = at;
    let mut width = side;
    if comptime!(lies.along_sum) {
        row = at;
        column = depth;
        width = sum;
    }
    let mut value = 0.0f32;
    if at < side && depth < sum {
        value = f32::cast_from(values[row * width + column]);
        if comptime!(lies.drops) {
            value *= factor(mask, row as u32, column as u32);
        }
    }
    value
}

/// This unit's value of tile number `tile` of `left · right`, `[rows, columns]`: a sum of `sum`
/// products. All units of the workgroup must call this.
#[cube]
pub(crate) fn tile_of_product<L: Float, R: Float>(
    left: &[L],
    right: &[R],
    rows: usize,
    columns: usize,
    sum: usize,
    tile: usize,
    mask: &Mask,
    #[comptime] left_lies: Lies,
    #[comptime] right_lies: Lies,
) -> f32 {
    let across = columns.div_ceil(TILE);
    let (first_row, first_column) = (tile / across * TILE, tile % across * TILE);
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    // A column more than there are, so that units read from different banks.
    let stride = comptime!(TILE + 1);
    let mut lefts = Shared::<[f32]>::new_slice(DEPTH * stride);
    let mut rights = Shared::<[f32]>::new_slice(DEPTH * stride);
    let mut result = 0.0f32;
    let mut begin = 0usize;
    while begin < sum {
        // What is left of a short sum: LoRA's ranks are less than a piece.
        let depths = min(sum - begin, DEPTH);
        for part in 0..depths.div_ceil(TILE) {
            // Units beside each other read values beside each other.
            let at = part * TILE;
            if comptime!(left_lies.along_sum) {
                let depth = at + x;
                lefts[depth * stride + y] = read::<L>(
                    left,
                    first_row + y,
                    begin + depth,
                    rows,
                    sum,
                    mask,
                    left_lies,
                );
            } else {
                let depth = at + y;
                lefts[depth * stride + x] = read::<L>(
                    left,
                    first_row + x,
                    begin + depth,
                    rows,
                    sum,
                    mask,
                    left_lies,
                );
            }
            if comptime!(right_lies.along_sum) {
                let depth = at + x;
                rights[depth * stride + y] = read::<R>(
                    right,
                    first_column + y,
                    begin + depth,
                    columns,
                    sum,
                    mask,
                    right_lies,
                );
            } else {
                let depth = at + y;
                rights[depth * stride + x] = read::<R>(
                    right,
                    first_column + x,
                    begin + depth,
                    columns,
                    sum,
                    mask,
                    right_lies,
                );
            }
        }
        sync_cube();
        for depth in 0..depths {
            result += lefts[depth * stride + y] * rights[depth * stride + x];
        }
        sync_cube();
        begin += DEPTH;
    }
    result
}

/// The row and the column of this unit's value of a tile.
#[cube]
pub(crate) fn place_in_tile(columns: usize, tile: usize) -> (usize, usize) {
    let across = columns.div_ceil(TILE);
    let row = tile / across * TILE + UNIT_POS_Y as usize;
    let column = tile % across * TILE + UNIT_POS_X as usize;
    (row, column)
}
