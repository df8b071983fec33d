//! Products of matrices of which one side is short: a workgroup makes one tile of the result.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::mask::{Mask, factor};

/// How much of the sum is in shared memory at once.
const DEPTH: usize = 32;

/// How the units of a workgroup make a tile. Its rows, its columns and [`DEPTH`] must be multiples of
/// both numbers of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tiling {
    /// How many units there are along rows, and along columns.
    units: [usize; 2],
    /// How many rows, and columns, of the tile a unit makes.
    each: [usize; 2],
}

impl Tiling {
    /// For GPUs: each value has a unit.
    const SQUARE: Self = Self {
        units: [16, 16],
        each: [1, 1],
    };

    /// For results with few columns.
    pub fn tall(software: bool) -> Self {
        if software {
            // A value is read in far more time than it is multiplied in.
            Self {
                units: [8, 1],
                each: [4, 8],
            }
        } else {
            Self::SQUARE
        }
    }

    /// For results with few rows, or a short sum.
    pub fn wide(software: bool) -> Self {
        let Self { units, each } = Self::tall(software);
        Self {
            units: [units[1], units[0]],
            each: [each[1], each[0]],
        }
    }

    fn rows(&self) -> usize {
        self.units[0] * self.each[0]
    }

    fn columns(&self) -> usize {
        self.units[1] * self.each[1]
    }

    /// How many values a unit makes.
    pub fn values(&self) -> usize {
        self.each[0] * self.each[1]
    }

    /// How many units a workgroup has.
    pub fn units(&self) -> u32 {
        (self.units[0] * self.units[1]) as u32
    }

    /// The units of a workgroup, in one dimension: a device in software computes those along `x`
    /// together.
    pub fn cube_dim(&self) -> CubeDim {
        CubeDim::new_1d(self.units())
    }
}

/// How far it is in shared memory from one step of the sum to the next: odd, so that units read from
/// different banks.
fn pitch(length: usize) -> usize {
    length + 1
}

/// How many tiles cover `rows` by `columns`.
#[cube]
pub(crate) fn tiles(rows: usize, columns: usize, #[comptime] tiling: Tiling) -> usize {
    rows.div_ceil(comptime!(tiling.rows())) * columns.div_ceil(comptime!(tiling.columns()))
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
    pub fn new(#[comptime] tiling: Tiling) -> Self {
        Tiles {
            left: Shared::<[f32]>::new_slice(comptime!(DEPTH * pitch(tiling.rows()))),
            right: Shared::<[f32]>::new_slice(comptime!(DEPTH * pitch(tiling.columns()))),
        }
    }
}

/// A unit's place among the rows of units, and in its row.
#[cube]
fn own(#[comptime] tiling: Tiling) -> (usize, usize) {
    let unit = UNIT_POS_X as usize;
    let across = comptime!(tiling.units[1]);
    (unit / across, unit % across)
}

/// Copies a factor's part of the next `depths` steps of the sum to shared memory, so that
/// neighbouring units read neighbouring values. The tile has `length` places on its side.
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
    #[comptime] length: usize,
    #[comptime] tiling: Tiling,
) {
    // A unit's place on the side and its step of the sum, and how far it is to its next ones.
    let (y, x) = own(tiling);
    let mut own_place = x;
    let mut own_step = y;
    let along = lies.along_sum;
    if along {
        own_place = y;
        own_step = x;
    }
    let to_place = comptime!(tiling.units[if along { 0 } else { 1 }]);
    let to_step = comptime!(tiling.units[if along { 1 } else { 0 }]);
    for part in 0..depths.div_ceil(to_step) {
        let step = part * to_step + own_step;
        for other in 0..comptime!(length / to_place) {
            let place = other * to_place + own_place;
            let (at, depth) = (first + place, begin + step);
            let mut row = depth;
            let mut column = at;
            let mut width = side.length;
            if along {
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
            tile[step * comptime!(pitch(length)) + place] = value;
        }
    }
}

/// This unit's values of tile number `tile` of `left · right`: sums of `sum` products. All units of
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
    #[comptime] tiling: Tiling,
) -> Array<f32> {
    let of_rows = comptime!(tiling.rows());
    let of_columns = comptime!(tiling.columns());
    let across = columns.length.div_ceil(of_columns);
    let (first_row, first_column) = (tile / across * of_rows, tile % across * of_columns);
    let (y, x) = own(tiling);
    let (y, x) = (y * comptime!(tiling.each[0]), x * comptime!(tiling.each[1]));
    let mut results = Array::<f32>::new(comptime!(tiling.values()));
    #[unroll]
    for i in 0..comptime!(tiling.values()) {
        results[i] = 0.0f32;
    }
    let mut a = Array::<f32>::new(comptime!(tiling.each[0]));
    let mut b = Array::<f32>::new(comptime!(tiling.each[1]));
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
            of_rows,
            tiling,
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
            of_columns,
            tiling,
        );
        sync_cube();
        for depth in 0..depths {
            #[unroll]
            for i in 0..comptime!(tiling.each[0]) {
                a[i] = tiles.left[depth * comptime!(pitch(of_rows)) + y + i];
            }
            #[unroll]
            for j in 0..comptime!(tiling.each[1]) {
                b[j] = tiles.right[depth * comptime!(pitch(of_columns)) + x + j];
            }
            #[unroll]
            for i in 0..comptime!(tiling.each[0]) {
                #[unroll]
                for j in 0..comptime!(tiling.each[1]) {
                    results[i * comptime!(tiling.each[1]) + j] += a[i] * b[j];
                }
            }
        }
        sync_cube();
        begin += DEPTH;
    }
    results
}

/// The row and the column of value `i` of this unit.
#[cube]
pub(crate) fn place_in_tile(
    columns: usize,
    tile: usize,
    i: usize,
    #[comptime] tiling: Tiling,
) -> (usize, usize) {
    let across = columns.div_ceil(comptime!(tiling.columns()));
    let each = comptime!(tiling.each[1]);
    let row = tile / across * comptime!(tiling.rows());
    let column = tile % across * comptime!(tiling.columns());
    let (y, x) = own(tiling);
    let row = row + y * comptime!(tiling.each[0]) + i / each;
    (row, column + x * each + i % each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fill_whole_tiles() {
        for software in [false, true] {
            for tiling in [Tiling::tall(software), Tiling::wide(software)] {
                for units in tiling.units {
                    for length in [tiling.rows(), tiling.columns(), DEPTH] {
                        assert_eq!(length % units, 0, "{tiling:?}");
                    }
                }
            }
        }
    }
}
