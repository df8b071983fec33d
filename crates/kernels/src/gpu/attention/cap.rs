//! Scores bounded by a soft cap.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

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
