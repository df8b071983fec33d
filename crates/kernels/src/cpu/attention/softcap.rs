//! Scores kept between two bounds: `cap · tanh(score / cap)`.

use pulp::Simd;

use super::simd::{load, store};
use crate::cpu::exp::exp;

/// `(tanh(x) / x - 1) / x²` by the powers of `x²`, a minimax fit for |x| <= 0.5 (relative error of
/// tanh: 2e-9).
const COEFFICIENTS: [f32; 5] = [
    -0.333_333_3,
    0.133_332_27,
    -0.053_933_79,
    0.021_472_72,
    -0.006_947_004,
];

#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    let square = simd.mul_f32s(x, x);
    let [c0, c1, c2, c3, c4] = COEFFICIENTS;
    let p = simd.mul_add_e_f32s(splat(c4), square, splat(c3));
    let p = simd.mul_add_e_f32s(p, square, splat(c2));
    let p = simd.mul_add_e_f32s(p, square, splat(c1));
    let p = simd.mul_add_e_f32s(p, square, splat(c0));
    let near = simd.mul_add_e_f32s(simd.mul_f32s(p, square), x, x);
    let size = simd.abs_f32s(x);
    let e = exp(simd, simd.mul_f32s(size, splat(-2.0)));
    let far = simd.div_f32s(simd.sub_f32s(splat(1.0), e), simd.add_f32s(splat(1.0), e));
    let negative = simd.less_than_f32s(x, splat(0.0));
    let far = simd.select_f32s(negative, simd.neg_f32s(far), far);
    simd.select_f32s(simd.less_than_f32s(size, splat(0.5)), near, far)
}

/// Caps a row of whole vectors, if there is a cap.
#[inline(always)]
pub(crate) fn cap_row<S: Simd>(simd: S, softcap: Option<f32>, row: &mut [f32]) {
    let Some(cap) = softcap else { return };
    let (cap, inverse) = (simd.splat_f32s(cap), simd.splat_f32s(1.0 / cap));
    for chunk in row.chunks_exact_mut(S::F32_LANES) {
        let score = simd.mul_f32s(load(simd, chunk), inverse);
        store(simd, chunk, simd.mul_f32s(tanh(simd, score), cap));
    }
}

/// The slope of a capped score: 1 without a cap, 0 for negative infinity.
#[inline(always)]
pub(crate) fn slope<S: Simd>(simd: S, softcap: Option<f32>, capped: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let Some(cap) = softcap else { return one };
    let capped = simd.max_f32s(capped, simd.splat_f32s(-cap));
    let tanh = simd.mul_f32s(capped, simd.splat_f32s(1.0 / cap));
    simd.sub_f32s(one, simd.mul_f32s(tanh, tanh))
}
