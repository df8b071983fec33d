//! What becomes of scores, and which weights are dropped.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::shape::Numbers;
use crate::cpu::random::{MIX_1, MIX_2, SPREAD};

/// A scaled score, bounded.
#[cube]
pub(super) fn capped(score: f32, cap: f32) -> f32 {
    cap * bounded(score, cap)
}

/// `tanh(score / cap)`.
#[cube]
pub(super) fn bounded(score: f32, cap: f32) -> f32 {
    // Beyond 12 it is 1 in 32 bits, and the `tanh` of some devices is NaN there.
    clamp(score / cap, f32::new(-12.0), f32::new(12.0)).tanh()
}

#[cube]
fn mixed(x: u32) -> u32 {
    let a = (x ^ (x >> 16)) * MIX_1;
    let b = (a ^ (a >> 15)) * MIX_2;
    b ^ (b >> 16)
}

/// The factor of a weight, by the row of its query and head and the column of its key.
#[cube]
pub(super) fn factor(numbers: &Numbers, row: u32, column: u32) -> f32 {
    // As `cpu::random::row_key` and `bits`.
    let key_1 = mixed(row ^ numbers.seed_1);
    let key_2 = mixed((row * SPREAD) ^ numbers.seed_2);
    let x = column ^ key_1;
    let x = ((x ^ (x >> 16)) * MIX_1) ^ key_2;
    let x = (x ^ (x >> 15)) * MIX_2;
    let bits = x ^ (x >> 16);
    select(bits >= numbers.threshold, numbers.kept, f32::new(0.0))
}
