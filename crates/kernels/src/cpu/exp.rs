//! The exponential of `f32`, a vector at a time, and the softmax step built on it.

use pulp::Simd;

use crate::cpu::attention::simd::{load, store};

/// Below this the result is 0 (`exp` of it is the smallest normal `f32`).
const UNDERFLOW: f32 = -87.336_54;
/// Adding this and subtracting it again rounds to the nearest integer, which is in the low bits of
/// the sum in between.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with few enough bits that a product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// `(exp(r) - 1 - r) / r^2` on |r| <= ln(2) / 2, a minimax fit (relative error of exp: 3e-9).
const COEFFICIENTS: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_745,
    0.001_381_454,
];

/// `exp(x)` for x <= 88, within 2 units in the last place; 0 where the result would be denormal, as
/// for negative infinity; NaN for NaN.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    let rounded = simd.mul_add_e_f32s(x, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let exponent = simd.sub_f32s(rounded, splat(ROUND));
    let r = simd.mul_add_e_f32s(exponent, splat(-LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(exponent, splat(-LN2_LOW), r);
    let [c0, c1, c2, c3, c4] = COEFFICIENTS;
    let p = simd.mul_add_e_f32s(splat(c4), r, splat(c3));
    let p = simd.mul_add_e_f32s(p, r, splat(c2));
    let p = simd.mul_add_e_f32s(p, r, splat(c1));
    let p = simd.mul_add_e_f32s(p, r, splat(c0));
    let p = simd.mul_add_e_f32s(p, simd.mul_f32s(r, r), r);
    let p = simd.add_f32s(p, splat(1.0));
    // Times 2^exponent: its integer is added to the exponent bits.
    let shifted =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let scaled = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), shifted));
    simd.select_f32s(simd.less_than_f32s(x, splat(UNDERFLOW)), splat(0.0), scaled)
}

/// [`exp`] of any single value, in a form that the compiler can vectorise. Above 88 it is the
/// exponential of 88, near the largest `f32`.
#[inline(always)]
pub fn exp_one(x: f32) -> f32 {
    exp(pulp::Scalar, if x > 88.0 { 88.0 } else { x })
}

/// The largest value of a row; negative infinity if it is empty.
///
/// # Panics
///
/// If the row is not a whole number of vectors.
#[inline(always)]
pub fn max<S: Simd>(simd: S, row: &[f32]) -> f32 {
    assert_eq!(row.len() % S::F32_LANES, 0);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for chunk in row.chunks_exact(S::F32_LANES) {
        largest = simd.max_f32s(load(simd, chunk), largest);
    }
    simd.reduce_max_f32s(largest)
}

/// Replaces every x of a row by `exp(x - shift)` and returns their sum.
///
/// # Panics
///
/// If the row is not a whole number of vectors.
#[inline(always)]
pub fn exp_sum<S: Simd>(simd: S, row: &mut [f32], shift: f32) -> f32 {
    assert_eq!(row.len() % S::F32_LANES, 0);
    let shift = simd.splat_f32s(shift);
    let mut sum = simd.splat_f32s(0.0);
    for chunk in row.chunks_exact_mut(S::F32_LANES) {
        let value = exp(simd, simd.sub_f32s(load(simd, chunk), shift));
        sum = simd.add_f32s(sum, value);
        store(simd, chunk, value);
    }
    simd.reduce_sum_f32s(sum)
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar, WithSimd};

    use super::*;

    struct All<'a>(&'a [f32], &'a mut [f32]);

    impl WithSimd for All<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let chunks = self.0.chunks_exact(S::F32_LANES);
            for (from, to) in chunks.zip(self.1.chunks_exact_mut(S::F32_LANES)) {
                store(simd, to, exp(simd, load(simd, from)));
            }
        }
    }

    #[test]
    fn is_within_two_units_of_the_exact_value() {
        // Every 7,001st float from -87.3 to -1e-8, and the same on the other side of zero.
        let negative = (1e-8f32.to_bits()..87.3f32.to_bits())
            .step_by(7001)
            .map(f32::from_bits);
        let mut x: Vec<f32> = negative.flat_map(|x| [-x, x]).chain([0.0]).collect();
        x.resize(x.len().next_multiple_of(16), 0.0);
        let mut vector = vec![0.0; x.len()];
        let mut scalar = vec![0.0; x.len()];
        Arch::new().dispatch(All(&x, &mut vector));
        Scalar.vectorize(All(&x, &mut scalar));
        for values in [vector, scalar] {
            for (x, value) in x.iter().zip(values) {
                let exact = f64::from(*x).exp();
                let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                let error = (f64::from(value) - exact).abs() / unit;
                assert!(
                    error <= 2.0,
                    "exp({x}) = {value}, exact {exact}: {error} units"
                );
            }
        }
    }

    #[test]
    fn small_is_zero_and_nan_stays() {
        let mut x = [f32::NEG_INFINITY; 16];
        x[1] = -88.0;
        x[2] = f32::NAN;
        x[3] = -f32::NAN;
        let mut y = [1.0; 16];
        Arch::new().dispatch(All(&x, &mut y));
        assert!(y[2].is_nan() && y[3].is_nan());
        y[2] = 0.0;
        y[3] = 0.0;
        assert_eq!(y, [0.0; 16]);
    }
}
