//! Activation functions of single values and their slopes.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use crate::cpu::ActivationKind;

/// The square root of 2/π, and the coefficient of `x³` in the approximation of GELU.
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// The square root of 1/2, and 1 over the square root of 2 π.
const HALF_ROOT: f32 = 0.707_106_77;
const DENSITY: f32 = 0.398_942_3;

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

/// The share of the normal distribution below `x`, exact to 1e-7 (Abramowitz and Stegun, 7.1.26). The
/// error of CubeCL's own function is a thousand times as large.
#[cube]
fn normal_share(x: f32) -> f32 {
    let size = x.abs() * HALF_ROOT;
    let t = 1.0f32 / (1.0f32 + 0.327_591_1f32 * size);
    let sum = 1.421_413_7f32 + t * (-1.453_152_1f32 + t * 1.061_405_4f32);
    let sum = t * (0.254_829_6f32 + t * (-0.284_496_72f32 + t * sum));
    let tail = 0.5f32 * sum * (-size * size).exp();
    if x < 0.0f32 { tail } else { 1.0f32 - tail }
}

/// The function of `x`.
#[cube]
pub(crate) fn value(x: f32, #[comptime] kind: ActivationKind) -> f32 {
    if comptime!(kind == ActivationKind::Silu) {
        x * sigmoid(x)
    } else if comptime!(kind == ActivationKind::Gelu) {
        x * normal_share(x)
    } else if comptime!(kind == ActivationKind::GeluTanh) {
        x * sigmoid(2.0f32 * ROOT * x * (1.0f32 + CUBIC * x * x))
    } else {
        let mut positive = x;
        if x < 0.0f32 {
            positive = 0.0f32.runtime();
        }
        if comptime!(kind == ActivationKind::Relu) {
            positive
        } else {
            positive * positive
        }
    }
}

/// The slope of the function at `x`.
#[cube]
pub(crate) fn slope(x: f32, #[comptime] kind: ActivationKind) -> f32 {
    if comptime!(kind == ActivationKind::Silu) {
        let share = sigmoid(x);
        share + x * share * (1.0f32 - share)
    } else if comptime!(kind == ActivationKind::Gelu) {
        normal_share(x) + x * DENSITY * (-0.5f32 * x * x).exp()
    } else if comptime!(kind == ActivationKind::GeluTanh) {
        let square = x * x;
        let share = sigmoid(2.0f32 * ROOT * x * (1.0f32 + CUBIC * square));
        let inner = 2.0f32 * ROOT * (1.0f32 + 3.0f32 * CUBIC * square);
        share + x * share * (1.0f32 - share) * inner
    } else {
        let mut positive = x;
        let mut step = 1.0f32.runtime();
        if x <= 0.0f32 {
            positive = 0.0f32.runtime();
            step = 0.0f32.runtime();
        }
        if comptime!(kind == ActivationKind::Relu) {
            step
        } else {
            2.0f32 * positive
        }
    }
}
