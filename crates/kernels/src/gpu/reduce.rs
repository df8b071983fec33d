//! Sums over the units of a workgroup, through its shared memory.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::launch::cubes;

/// The sum of all units' values, which each unit gets. The workgroup has `units` units, a power of
/// two, and all of them must call this.
#[cube]
pub(crate) fn sum_of_units(value: f32, #[comptime] units: u32) -> f32 {
    reduced(value, false, units)
}

/// As [`sum_of_units`], the largest value.
#[cube]
pub(crate) fn max_of_units(value: f32, #[comptime] units: u32) -> f32 {
    reduced(value, true, units)
}

#[cube]
fn reduced(value: f32, #[comptime] largest: bool, #[comptime] units: u32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(units as usize);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut step = comptime!(units as usize / 2).runtime();
    while step > 0 {
        if unit < step {
            let (own, other) = (shared[unit], shared[unit + step]);
            if largest {
                shared[unit] = max(own, other);
            } else {
                shared[unit] = own + other;
            }
        }
        sync_cube();
        step /= 2;
    }
    shared[0]
}

/// As [`sum_of_units`], for two values at once.
#[cube]
pub(crate) fn sums_of_units(first: f32, second: f32, #[comptime] units: u32) -> (f32, f32) {
    let units = comptime!(units as usize);
    let mut shared = Shared::<[f32]>::new_slice(2 * units);
    let unit = UNIT_POS as usize;
    shared[unit] = first;
    shared[unit + units] = second;
    sync_cube();
    let mut step = comptime!(units / 2).runtime();
    while step > 0 {
        if unit < step {
            shared[unit] += shared[unit + step];
            shared[unit + units] += shared[unit + units + step];
        }
        sync_cube();
        step /= 2;
    }
    (shared[0], shared[units])
}

/// How many columns of a matrix a workgroup sums.
pub(crate) const COLUMNS: u32 = 32;
/// How many units, the lanes, share a column; each takes every `LANES`-th row.
pub(crate) const LANES: u32 = 8;

/// The workgroups that sum `count` columns, and their units: `UNIT_POS_X` is the column and
/// `UNIT_POS_Y` the lane.
pub(crate) fn columns(count: usize) -> (CubeCount, CubeDim) {
    let cubes = cubes(count.div_ceil(COLUMNS as usize));
    (cubes, CubeDim::new_2d(COLUMNS, LANES))
}

/// The sum over a column's lanes, which each lane gets. All units must call this.
#[cube]
pub(crate) fn sum_of_lanes(value: f32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice((COLUMNS * LANES) as usize);
    shared[UNIT_POS as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    for lane in 0..LANES as usize {
        sum += shared[lane * COLUMNS as usize + UNIT_POS_X as usize];
    }
    sum
}
