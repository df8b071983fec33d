//! Values kept in bf16.

use rayon::prelude::*;

use super::buffer::{filled_as, filled_rows, vectorised};

/// The number of values that a thread rounds at a time.
const PIECE: usize = 1 << 15;

vectorised! {
    /// The values of these bits.
    pub(in crate::cpu) fn widen<'a>(bits: &'a [u16], out: &'a mut [f32]) {
        for (out, &bits) in out.iter_mut().zip(bits) {
            *out = f32::from_bits(u32::from(bits) << 16);
        }
    }

    /// The bits of values, rounded to nearest even.
    pub(in crate::cpu) fn round<'a>(values: &'a [f32], out: &'a mut [u16]) {
        for (out, value) in out.iter_mut().zip(values) {
            let bits = value.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
            // Rounding could turn a NaN into an infinity.
            let bits = if value.is_nan() { bits | 0x40_0000 } else { rounded };
            *out = (bits >> 16) as u16;
        }
    }
}

/// The values rounded to bf16, to nearest even.
pub fn narrowed(values: &[f32]) -> Vec<u16> {
    filled_as(values.len(), |out| {
        out.par_chunks_mut(PIECE)
            .zip(values.par_chunks(PIECE))
            .for_each(|(out, values)| round(values, out));
    })
}

/// The values of these bits of bf16.
pub fn widened(bits: &[u16]) -> Vec<f32> {
    filled_rows(bits.len(), 1, |places, out| widen(&bits[places], out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn rounds_as_half_does() {
        let bits = (0..=u32::MAX).step_by(40_009);
        let values: Vec<f32> = bits.map(f32::from_bits).collect();
        let mut back = vec![0.0; values.len()];
        let found = narrowed(&values);
        widen(&found, &mut back);
        for ((value, found), back) in values.iter().zip(found).zip(back) {
            let wanted = bf16::from_f32(*value);
            if value.is_nan() {
                assert!(back.is_nan(), "{value}");
            } else {
                assert_eq!(found, wanted.to_bits(), "{value}");
                assert_eq!(back, wanted.to_f32(), "{value}");
            }
        }
    }
}
