//! The kernels of both norms. `centres` says whether a row's mean is taken from it, as the layer
//! norm does and the root-mean-square norm does not.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use crate::gpu::reduce::{COLUMNS, LANES, sum_of_lanes, sum_of_units, sums_of_units};

/// A row's mean, or 0, and the factor that brings its values to the size 1. All units of the
/// workgroup must call this.
#[cube]
fn statistics<F: Float>(
    x: &[F],
    begin: usize,
    d: usize,
    epsilon: f32,
    #[comptime] centres: bool,
    #[comptime] units: u32,
) -> (f32, f32) {
    let count = f32::cast_from(d as u32);
    let mut mean = 0.0f32;
    if centres {
        let mut sum = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < d {
            sum += f32::cast_from(x[begin + i]);
            i += units as usize;
        }
        mean = sum_of_units(sum, units) / count;
    }
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let value = f32::cast_from(x[begin + i]) - mean;
        squares += value * value;
        i += units as usize;
    }
    let variance = sum_of_units(squares, units) / count;
    (mean, (variance + epsilon).inverse_sqrt())
}

/// A workgroup makes a row of the output.
#[cube(launch_unchecked)]
pub(super) fn forward<F: Float>(
    x: &[F],
    weight: &[F],
    bias: &[F],
    output: &mut [F],
    d: u32,
    epsilon: f32,
    offset: f32,
    #[comptime] centres: bool,
    #[comptime] has_bias: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let begin = CUBE_POS * d;
    if begin >= x.len() {
        terminate!();
    }
    let (mean, factor) = statistics::<F>(x, begin, d, epsilon, centres, units);
    let mut i = UNIT_POS as usize;
    while i < d {
        let normed = (f32::cast_from(x[begin + i]) - mean) * factor;
        let mut value = normed * (offset + f32::cast_from(weight[i]));
        if has_bias {
            value += f32::cast_from(bias[i]);
        }
        output[begin + i] = F::cast_from(value);
        i += units as usize;
    }
}

/// A workgroup makes a row of the gradient of `x`.
#[cube(launch_unchecked)]
pub(super) fn of_x<F: Float>(
    x: &[F],
    weight: &[F],
    grad: &[F],
    output: &mut [F],
    d: u32,
    epsilon: f32,
    offset: f32,
    #[comptime] centres: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let begin = CUBE_POS * d;
    if begin >= x.len() {
        terminate!();
    }
    let (mean, factor) = statistics::<F>(x, begin, d, epsilon, centres, units);
    let mut direct_sum = 0.0f32;
    let mut product_sum = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let direct = f32::cast_from(grad[begin + i]) * (offset + f32::cast_from(weight[i]));
        if centres {
            direct_sum += direct;
        }
        product_sum += direct * (f32::cast_from(x[begin + i]) - mean) * factor;
        i += units as usize;
    }
    let (direct_sum, product_sum) = sums_of_units(direct_sum, product_sum, units);
    let count = f32::cast_from(d as u32);
    let mut i = UNIT_POS as usize;
    while i < d {
        let normed = (f32::cast_from(x[begin + i]) - mean) * factor;
        let direct = f32::cast_from(grad[begin + i]) * (offset + f32::cast_from(weight[i]));
        let value = factor * (direct - (direct_sum + normed * product_sum) / count);
        output[begin + i] = F::cast_from(value);
        i += units as usize;
    }
}

/// A workgroup writes the two statistics of a row to `output`, `[rows, 2]`.
#[cube(launch_unchecked)]
pub(super) fn all_statistics<F: Float>(
    x: &[F],
    output: &mut [f32],
    d: u32,
    epsilon: f32,
    #[comptime] centres: bool,
    #[comptime] units: u32,
    #[define(F)] _dtype: ElemType,
) {
    let d = d as usize;
    let row = CUBE_POS;
    if 2 * row >= output.len() {
        terminate!();
    }
    let (mean, factor) = statistics::<F>(x, row * d, d, epsilon, centres, units);
    if UNIT_POS == 0 {
        output[2 * row] = mean;
        output[2 * row + 1] = factor;
    }
}

/// The gradients of the weight and of the bias, if there is one. A workgroup takes [`COLUMNS`]
/// columns, and each of its lanes every [`LANES`]-th row.
#[cube(launch_unchecked)]
pub(super) fn of_parameters<F: Float>(
    x: &[F],
    grad: &[F],
    statistics: &[f32],
    of_weight: &mut [F],
    of_bias: &mut [F],
    #[comptime] has_bias: bool,
    #[define(F)] _dtype: ElemType,
) {
    let d = of_weight.len();
    let column = CUBE_POS * COLUMNS as usize + UNIT_POS_X as usize;
    let mut weight = 0.0f32;
    let mut bias = 0.0f32;
    if column < d {
        let mut row = UNIT_POS_Y as usize;
        while 2 * row < statistics.len() {
            let at = row * d + column;
            let grad = f32::cast_from(grad[at]);
            let value = f32::cast_from(x[at]) - statistics[2 * row];
            weight += grad * value * statistics[2 * row + 1];
            bias += grad;
            row += LANES as usize;
        }
    }
    let weight = sum_of_lanes(weight);
    let writes = UNIT_POS_Y == 0 && column < d;
    if writes {
        of_weight[column] = F::cast_from(weight);
    }
    if has_bias {
        let bias = sum_of_lanes(bias);
        if writes {
            of_bias[column] = F::cast_from(bias);
        }
    }
}
