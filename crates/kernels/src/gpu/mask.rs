//! Which values dropout keeps: the CPU's hash of seed, row and column, in 32 bits.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use crate::cpu::random::{Dropout, MIX_1, MIX_2, SPREAD, seed_words};

/// Dropout, as kernels take it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Mask {
    first: u32,
    second: u32,
    row: u32,
    threshold: u32,
    scale: f32,
}

/// Dropout as an argument of a launch. Kernels do not read it where there is no dropout.
pub(crate) fn mask(dropout: Option<Dropout>) -> MaskLaunch {
    let Some(dropout) = dropout else {
        return MaskLaunch::new(0, 0, 0, 0, 1.0);
    };
    let [first, second] = seed_words(dropout.seed);
    let (threshold, scale) = (dropout.threshold(), dropout.scale());
    MaskLaunch::new(first, second, dropout.first, threshold, scale)
}

#[cube]
fn shifted(x: u32, #[comptime] by: u32) -> u32 {
    x ^ (x >> by)
}

#[cube]
fn mixed(x: u32) -> u32 {
    shifted(shifted(shifted(x, 16u32) * MIX_1, 15u32) * MIX_2, 16u32)
}

/// What the value at this place is multiplied by: 0, or the scale of the values that stay.
#[cube]
pub(crate) fn factor(mask: &Mask, row: u32, column: u32) -> f32 {
    let row = row + mask.row;
    let first = mixed(row ^ mask.first);
    let second = mixed((row * SPREAD) ^ mask.second);
    let x = shifted(column ^ first, 16u32) * MIX_1;
    let x = shifted(x ^ second, 15u32) * MIX_2;
    if shifted(x, 16u32) >= mask.threshold {
        mask.scale
    } else {
        0.0f32.runtime()
    }
}
