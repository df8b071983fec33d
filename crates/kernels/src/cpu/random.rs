//! Random bits without a state: a pure function of a seed, a row and a column, so that a backward
//! pass makes the mask of its forward pass again.

use pulp::Simd;

use crate::cpu::attention::simd::{lanes, load, store};

/// The factors of [`bits`].
pub(crate) const MIX_1: u32 = 0x7feb_352d;
pub(crate) const MIX_2: u32 = 0x846c_a68b;
/// What makes the two words of a row different: 2³² divided by the golden ratio.
pub(crate) const SPREAD: u32 = 0x9e37_79b9;

/// Dropout of the elements of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Chooses the mask; a new one for every forward pass.
    pub seed: u64,
    /// The number of the first row.
    pub first: u32,
    /// The share of the elements that are set to zero, in `0.0..1.0`.
    pub probability: f32,
}

impl Dropout {
    /// An element stays if its bits are at least this.
    pub fn threshold(self) -> u32 {
        (f64::from(self.probability) * 4_294_967_296.0) as u32
    }

    /// The factor on the elements that stay.
    pub fn scale(self) -> f32 {
        1.0 / (1.0 - self.probability)
    }
}

/// A seed and a row, mixed.
#[derive(Debug, Clone, Copy)]
pub struct RowKey(u32, u32);

/// The key of one row, to be used for all of its columns.
#[inline]
pub fn row_key(seed: u64, row: u64) -> RowKey {
    let [first, second] = seed_words(seed);
    let row = row as u32;
    RowKey(
        mix_word(row ^ first),
        mix_word(row.wrapping_mul(SPREAD) ^ second),
    )
}

/// The halves of a seed, mixed.
pub(crate) fn seed_words(seed: u64) -> [u32; 2] {
    let seed = mix(seed);
    [seed as u32, (seed >> 32) as u32]
}

/// Wellons' `lowbias32`: in 32 bits, since devices' shaders may have no more.
#[inline]
fn mix_word(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(MIX_1);
    let x = (x ^ (x >> 15)).wrapping_mul(MIX_2);
    x ^ (x >> 16)
}

/// The finalizer of SplitMix64.
#[inline]
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 32 random bits of one column: a two-round integer hash (constants of Wellons' `lowbias32`) with
/// the second half of the key between the rounds. Without that, rows would be permutations of each
/// other.
#[inline(always)]
pub fn bits(key: RowKey, column: u32) -> u32 {
    let x = column ^ key.0;
    let x = (x ^ (x >> 16)).wrapping_mul(MIX_1);
    let x = x ^ key.1;
    let x = (x ^ (x >> 15)).wrapping_mul(MIX_2);
    x ^ (x >> 16)
}

/// Whether the element at `row`, `column` stays.
pub fn keep(seed: u64, row: u64, column: u32, threshold: u32) -> bool {
    bits(row_key(seed, row), column) >= threshold
}

/// [`bits`] of consecutive columns, one in each lane.
#[inline(always)]
fn bits_simd<S: Simd>(simd: S, key: RowKey, columns: S::u32s) -> S::u32s {
    let splat = |value| simd.splat_u32s(value);
    let shifted = |x, by| simd.xor_u32s(x, simd.wrapping_dyn_shr_u32s(x, splat(by)));
    let x = simd.xor_u32s(columns, splat(key.0));
    let x = simd.mul_u32s(shifted(x, 16), splat(MIX_1));
    let x = simd.xor_u32s(x, splat(key.1));
    let x = simd.mul_u32s(shifted(x, 15), splat(MIX_2));
    shifted(x, 16)
}

/// The factors of consecutive columns from `column` on, one in each lane: 0 or [`Dropout::scale`].
#[inline(always)]
pub(crate) fn factors<S: Simd>(
    simd: S,
    key: RowKey,
    column: u32,
    threshold: S::u32s,
    scale: S::f32s,
) -> S::f32s {
    let columns = simd.add_u32s(simd.splat_u32s(column), lanes(simd));
    let keep = simd.greater_than_or_equal_u32s(bits_simd(simd, key, columns), threshold);
    simd.select_f32s(keep, scale, simd.splat_f32s(0.0))
}

/// Applies dropout to a row of whole vectors, whose first column is `column`.
#[inline(always)]
pub fn drop_row<S: Simd>(simd: S, dropout: Dropout, row: u64, column: u32, values: &mut [f32]) {
    let key = row_key(dropout.seed, row);
    let threshold = simd.splat_u32s(dropout.threshold());
    let scale = simd.splat_f32s(dropout.scale());
    for (i, values) in values.chunks_exact_mut(S::F32_LANES).enumerate() {
        let factors = factors(
            simd,
            key,
            column + (i * S::F32_LANES) as u32,
            threshold,
            scale,
        );
        let value = simd.mul_f32s(load(simd, values), factors);
        store(simd, values, value);
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar, WithSimd};

    use super::*;

    struct Row<'a>(RowKey, u32, Dropout, &'a mut [f32]);

    impl WithSimd for Row<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let threshold = simd.splat_u32s(self.2.threshold());
            let scale = simd.splat_f32s(self.2.scale());
            for (i, to) in self.3.chunks_exact_mut(S::F32_LANES).enumerate() {
                let column = self.1 + (i * S::F32_LANES) as u32;
                store(simd, to, factors(simd, self.0, column, threshold, scale));
            }
        }
    }

    #[test]
    fn vectors_and_single_elements_agree() {
        let dropout = Dropout {
            seed: 7,
            first: 0,
            probability: 0.3,
        };
        for row in [0, 1, 1 << 31] {
            let key = row_key(dropout.seed, row);
            let (mut vector, mut scalar) = ([0.0; 64], [0.0; 64]);
            Arch::new().dispatch(Row(key, 3, dropout, &mut vector));
            Scalar.vectorize(Row(key, 3, dropout, &mut scalar));
            let expected: Vec<f32> = (3..67)
                .map(|column| keep(dropout.seed, row, column, dropout.threshold()))
                .map(|keep| if keep { dropout.scale() } else { 0.0 })
                .collect();
            assert_eq!(vector.as_slice(), expected);
            assert_eq!(scalar.as_slice(), expected);
        }
    }

    /// Shares of set bits, and of equal bits of neighbours, seeds and rows: each within 5 standard
    /// deviations of a half.
    #[test]
    fn bits_are_balanced_and_unrelated() {
        let (rows, columns) = (256, 256);
        let mut counts = [[0u32; 32]; 4];
        for row in 0..rows {
            let [key, below, other] =
                [(1, row), (1, row + 1), (2, row)].map(|(seed, row)| row_key(seed, row));
            for column in 0..columns {
                let x = bits(key, column);
                let pairs = [
                    x,
                    x ^ bits(key, column + 1),
                    x ^ bits(below, column),
                    x ^ bits(other, column),
                ];
                for (counts, pair) in counts.iter_mut().zip(pairs) {
                    for (bit, count) in counts.iter_mut().enumerate() {
                        *count += pair >> bit & 1;
                    }
                }
            }
        }
        let n = rows as f64 * f64::from(columns);
        for count in counts.as_flattened() {
            assert!(
                (f64::from(*count) - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt(),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn the_share_that_stays_is_as_asked() {
        for probability in [0.0, 0.05, 0.5, 0.9] {
            let dropout = Dropout {
                seed: 3,
                first: 0,
                probability,
            };
            let n = 1 << 18;
            let kept = (0..n).filter(|i| keep(3, i >> 9, (i & 511) as u32, dropout.threshold()));
            let (kept, expected) = (
                kept.count() as f64,
                n as f64 * (1.0 - f64::from(probability)),
            );
            let deviation = (expected * f64::from(probability)).sqrt();
            assert!(
                (kept - expected).abs() <= 5.0 * deviation,
                "{kept} of {expected}"
            );
        }
    }
}
