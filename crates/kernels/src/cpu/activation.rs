//! Activation functions, alone and as a gate.

use super::buffer::{filled_rows, vectorised};
use super::exp::exp_one as exp;

/// A function of single values between the layers of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationKind {
    /// `x · sigmoid(x)` (arXiv 1702.03118).
    Silu,
    /// GELU by the error function, `x Φ(x)` (arXiv 1606.08415).
    Gelu,
    /// GELU by its approximation, `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))` (transformers'
    /// `gelu_new` and `gelu_pytorch_tanh`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²` (arXiv 2109.08668).
    ReluSquared,
}

/// A function and its slope.
trait Curve {
    fn value(x: f32) -> f32;
    /// Value and slope, which share their costly part.
    fn both(x: f32) -> (f32, f32);
}

struct Silu;

impl Curve for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x / (1.0 + exp(-x))
    }

    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        let sigmoid = 1.0 / (1.0 + exp(-x));
        let value = x * sigmoid;
        (value, sigmoid + value * (1.0 - sigmoid))
    }
}

struct Gelu;

impl Gelu {
    const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
    /// `Φ(-x) exp(x²/2)` for x in 0..13.3 as a polynomial of `1 / (1 + SHRINK x)`, a minimax fit
    /// (relative error 8e-9). Further out the exponential is 0.
    const COEFFICIENTS: [f32; 10] = [
        7.467_728e-6,
        0.131_454_27,
        0.133_902_95,
        0.102_579_14,
        0.149_445_47,
        -0.113_868_915,
        0.300_701_44,
        -0.329_549_8,
        0.151_830_45,
        -0.026_502_501,
    ];
    const SHRINK: f32 = 0.33;

    /// The normal distribution's share below `x`, and `exp(-x²/2)`.
    #[inline(always)]
    fn below(x: f32) -> (f32, f32) {
        let t = 1.0 / (1.0 + Self::SHRINK * x.abs());
        let mut sum = 0.0;
        for coefficient in Self::COEFFICIENTS.into_iter().rev() {
            sum = sum * t + coefficient;
        }
        let bell = exp(-0.5 * x * x);
        let tail = sum * bell;
        (if x > 0.0 { 1.0 - tail } else { tail }, bell)
    }
}

impl Curve for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * Self::below(x).0
    }

    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        let (share, bell) = Self::below(x);
        (x * share, share + x * bell * Self::FRAC_1_SQRT_2PI)
    }
}

struct GeluTanh;

impl GeluTanh {
    /// √(2/π)
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;

    /// `sigmoid(2 u)` with `u = √(2/π) (x + 0.044715 x³)`: `(1 + tanh u) / 2`.
    #[inline(always)]
    fn gate(x: f32) -> f32 {
        let u = Self::SQRT_2_OVER_PI * (x + Self::CUBIC * x * x * x);
        let gate = 1.0 / (1.0 + exp(-2.0 * u));
        // Beyond `exp`'s range the gate would not reach 0, and its product with x³ would grow
        // again.
        if u < -44.0 { 0.0 } else { gate }
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * Self::gate(x)
    }

    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        let gate = Self::gate(x);
        let slope = Self::SQRT_2_OVER_PI * (1.0 + 3.0 * Self::CUBIC * x * x);
        (x * gate, gate + 2.0 * x * gate * (1.0 - gate) * slope)
    }
}

struct Relu;

impl Curve for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        // `f32::max` would turn a NaN into 0.
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        (Self::value(x), if x > 0.0 { 1.0 } else { 0.0 })
    }
}

struct ReluSquared;

impl Curve for ReluSquared {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        Relu::value(x) * x
    }

    #[inline(always)]
    fn both(x: f32) -> (f32, f32) {
        (Self::value(x), 2.0 * Relu::value(x))
    }
}

/// Runs `$body` with `$curve` being the type of the function.
macro_rules! with_curve {
    ($kind:expr, $curve:ident => $body:expr) => {
        with_curve!($kind, $curve => $body, Silu Gelu GeluTanh Relu ReluSquared)
    };
    ($kind:expr, $curve:ident => $body:expr, $($name:ident)+) => {
        match $kind {
            $(ActivationKind::$name => {
                type $curve = $name;
                $body
            })+
        }
    };
}

#[inline(always)]
fn each<C: Curve>(x: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = C::value(x);
    }
}

#[inline(always)]
fn each_slope<C: Curve>(x: &[f32], grad: &[f32], out: &mut [f32]) {
    for ((out, &x), grad) in out.iter_mut().zip(x).zip(grad) {
        let (_, slope) = C::both(x);
        *out = grad * slope;
    }
}

#[inline(always)]
fn each_gated<C: Curve>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = C::value(gate) * up;
    }
}

#[inline(always)]
fn each_gated_slope<C: Curve>(
    [gate, up]: [&[f32]; 2],
    grad: &[f32],
    [of_gate, of_up]: [&mut [f32]; 2],
) {
    let inputs = gate.iter().zip(up).zip(grad);
    let outputs = of_gate.iter_mut().zip(of_up);
    for (((&gate, up), grad), (of_gate, of_up)) in inputs.zip(outputs) {
        let (value, slope) = C::both(gate);
        *of_gate = grad * up * slope;
        *of_up = grad * value;
    }
}

vectorised! {
    /// The function of each value.
    pub(super) fn activate_into<'a>(kind: ActivationKind, x: &'a [f32], out: &'a mut [f32]) {
        with_curve!(kind, C => each::<C>(x, out))
    }

    /// The gradients of `x`, given those of the function.
    pub(super) fn slopes_into<'a>(
        kind: ActivationKind,
        x: &'a [f32],
        grad: &'a [f32],
        out: &'a mut [f32],
    ) {
        with_curve!(kind, C => each_slope::<C>(x, grad, out))
    }

    /// The function of each value of `gate`, times that of `up`.
    pub(super) fn gated_into<'a>(
        kind: ActivationKind,
        gate: &'a [f32],
        up: &'a [f32],
        out: &'a mut [f32],
    ) {
        with_curve!(kind, C => each_gated::<C>(gate, up, out))
    }

    /// The gradients of `gate` and `up`, given those of their product.
    pub(super) fn gated_slopes_into<'a>(
        kind: ActivationKind,
        inputs: [&'a [f32]; 2],
        grad: &'a [f32],
        outputs: [&'a mut [f32]; 2],
    ) {
        with_curve!(kind, C => each_gated_slope::<C>(inputs, grad, outputs))
    }
}

/// The function of each value.
pub fn activate(kind: ActivationKind, x: &[f32]) -> Vec<f32> {
    filled_rows(x.len(), 1, |places, out| {
        activate_into(kind, &x[places], out);
    })
}

/// The gradient of `x`, given that of [`activate`]'s output.
///
/// # Panics
/// If `grad` is shorter than `x`.
pub fn activate_backward(kind: ActivationKind, x: &[f32], grad: &[f32]) -> Vec<f32> {
    filled_rows(x.len(), 1, |places, out| {
        slopes_into(kind, &x[places.clone()], &grad[places], out);
    })
}
