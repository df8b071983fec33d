//! Products of matrices of which one side is short: a workgroup computes one tile of the result.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::mask::{Mask, factor};

/// Rows and columns of a tile; each value has a unit.
pub(crate) const TILE: usize = 16;
/// How much of the sum is in shared memory at once.
const DEPTH: usize = 32;
/// From one step of the sum to the next in shared memory: odd, so that units read from different
/// banks.
const PITCH: usize = TILE + 1;

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

/// A factor of a product: where it begins in its buffer, and how many rows or columns of the result it
/// makes.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Side {
    pub begin: usize,
    pub length: usize,
}

#[cube]
impl Side {
    pub fn new(begin: usize, length: usize) -> Self {
        Side { begin, length }
    }
}

/// Shared memory for both factors.
#[derive(CubeType)]
pub(crate) struct Tiles {
    left: Shared<[f32]>,
    right: Shared<[f32]>,
}

#[cube]
impl Tiles {
    pub fn new() -> Self {
        Tiles {
            left: Shared::<[f32]>::new_slice(DEPTH * PITCH),
            right: Shared::<[f32]>::new_slice(DEPTH * PITCH),
        }
    }
}

/// Copies a factor's part of the next `depths` steps of the sum to shared memory, so that
/// neighbouring units read neighbouring values.
#[cube]
fn fill<F: Float>(
    tile: &mut Shared<[f32]>,
    values: &[F],
    side: &Side,
    first: usize,
    begin: usize,
    sum: usize,
    depths: usize,
    mask: &Mask,
    #[comptime] lies: Lies,
) {
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    for part in 0..depths.div_ceil(TILE) {
        // A place on the side and a step of the sum, in the tile and in the factor.
        let mut place = x;
        let mut step = part * TILE + y;
        if comptime!(lies.along_sum) {
            place = y;
            step = part * TILE + x;
        }
        let (at, depth) = (first + place, begin + step);
        let mut row = depth;
        let mut column = at;
        let mut width = side.length;
        if comptime!(lies.along_sum) {
            row = at;
            column = depth;
            width = sum;
        }
        let mut value = 0.0f32;
        if at < side.length && depth < sum {
            value = f32::cast_from(values[side.begin + row * width + column]);
            if comptime!(lies.drops) {
                value *= factor(mask, row as u32, column as u32);
            }
        }
        tile[step * PITCH + place] = value;
    }
}

/// This unit's value of tile number `tile` of `left · right`: a sum of `sum` products. All units of
/// the workgroup must call this.
#[cube]
pub(crate) fn tile_of_product<L: Float, R: Float>(
    left: &[L],
    rows: &Side,
    right: &[R],
    columns: &Side,
    sum: usize,
    tile: usize,
    tiles: &mut Tiles,
    mask: &Mask,
    #[comptime] left_lies: Lies,
    #[comptime] right_lies: Lies,
) -> f32 {
    let across = columns.length.div_ceil(TILE);
    let (first_row, first_column) = (tile / across * TILE, tile % across * TILE);
    let (x, y) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let mut result = 0.0f32;
    let mut begin = 0usize;
    while begin < sum {
        // What is left of a short sum: LoRA's ranks are less than a piece.
        let depths = min(sum - begin, DEPTH);
        fill::<L>(
            &mut tiles.left,
            left,
            rows,
            first_row,
            begin,
            sum,
            depths,
            mask,
            left_lies,
        );
        fill::<R>(
            &mut tiles.right,
            right,
            columns,
            first_column,
            begin,
            sum,
            depths,
            mask,
            right_lies,
        );
        sync_cube();
        for depth in 0..depths {
            result += tiles.left[depth * PITCH + y] * tiles.right[depth * PITCH + x];
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
