//! The values of a block in float32, bit for bit those of the PyPI package `gguf`.
//!
//! Each function takes the bytes of one block and the place for its values.

use half::{bf16, f16};

/// The values that 4 bits stand for in `IQ4_NL` and `IQ4_XS`.
pub(in crate::cpu) const NON_LINEAR: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];
/// Twice the values that 4 bits stand for in `MXFP4`.
pub(in crate::cpu) const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The 4 bits of a value in 16 bytes: first all lower halves, then all upper halves.
fn nibble(bytes: &[u8], value: usize) -> u8 {
    (bytes[value % 16] >> (4 * (value / 16))) & 15
}

/// Fills `out` with a function of each value's place.
fn fill(out: &mut [f32], value: impl Fn(usize) -> f32) {
    for (place, out) in out.iter_mut().enumerate() {
        *out = value(place);
    }
}

pub(super) fn f32(block: &[u8], out: &mut [f32]) {
    out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

pub(super) fn f16(block: &[u8], out: &mut [f32]) {
    out[0] = half(block, 0);
}

pub(super) fn bf16(block: &[u8], out: &mut [f32]) {
    out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
}

pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let (scale, codes) = (half(block, 0), &block[2..]);
    fill(out, |at| f32::from(codes[at] as i8) * scale);
}

pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let (scale, codes) = (half(block, 0), &block[2..]);
    fill(out, |at| scale * f32::from(nibble(codes, at) as i8 - 8));
}

pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (scale, least, codes) = (half(block, 0), half(block, 2), &block[4..]);
    fill(out, |at| scale * f32::from(nibble(codes, at)) + least);
}

/// The fifth bit of a value, in its place.
fn fifth(bits: &[u8], at: usize) -> u8 {
    ((bits[at / 8] >> (at % 8)) & 1) << 4
}

pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let (scale, high, codes) = (half(block, 0), &block[2..6], &block[6..]);
    let code = |at| (nibble(codes, at) | fifth(high, at)) as i8 - 16;
    fill(out, |at| scale * f32::from(code(at)));
}

pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    let (high, codes) = (&block[4..8], &block[8..]);
    let code = |at| nibble(codes, at) | fifth(high, at);
    fill(out, |at| scale * f32::from(code(at)) + least);
}

/// The 2 bits of a value in 64 bytes: 32 bytes hold 128 values, the lowest bits first.
fn two_bits(bytes: &[u8], at: usize) -> u8 {
    let shift = 2 * (at % 128 / 32);
    (bytes[at / 128 * 32 + at % 32] >> shift) & 3
}

pub(super) fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (scale, least) = (half(block, 80), half(block, 82));
    fill(out, |at| {
        let both = scales[at / 16];
        let code = f32::from(two_bits(codes, at));
        scale * f32::from(both & 15) * code - least * f32::from(both >> 4)
    });
}

pub(super) fn q3_k(block: &[u8], out: &mut [f32]) {
    let (high, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half(block, 108);
    let of_group = |group: usize| {
        let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
        let high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        scale * f32::from((low | (high << 4)) as i8 - 32)
    };
    fill(out, |at| {
        let is_high = (high[at % 32] >> (at / 32)) & 1;
        let code = two_bits(codes, at) as i8 - if is_high == 1 { 0 } else { 4 };
        of_group(at / 16) * f32::from(code)
    });
}

/// The 6-bit scale and minimum of a group of 32 values in 12 bytes.
fn scale_and_least(bytes: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = match group {
        0..4 => (bytes[group] & 63, bytes[4 + group] & 63),
        _ => {
            let low = bytes[4 + group];
            let high = |byte: u8| (byte >> 2) & 0x30;
            let (scale, least) = (high(bytes[group - 4]), high(bytes[group]));
            ((low & 15) | scale, (low >> 4) | least)
        }
    };
    (f32::from(scale), f32::from(least))
}

pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    five_or_four(block, &block[16..], out, |_, _| 0);
}

pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let high = &block[16..48];
    five_or_four(block, &block[48..], out, |group, at| {
        ((high[at] >> group) & 1) << 4
    });
}

/// `Q4_K` and `Q5_K`: 8 groups of 32 values; `fifth` gives each value one more bit.
fn five_or_four(block: &[u8], codes: &[u8], out: &mut [f32], fifth: impl Fn(usize, usize) -> u8) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (group, out) in out.chunks_mut(32).enumerate() {
        let (own_scale, own_least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (scale * own_scale, least * own_least);
        let codes = &codes[group / 2 * 32..][..32];
        fill(out, |at| {
            let code = (codes[at] >> (4 * (group % 2))) & 15;
            scale * f32::from(code | fifth(group, at)) - least
        });
    }
}

pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    fill(out, |at| {
        let low = (low[at / 128 * 64 + at % 64] >> (4 * (at % 128 / 64))) & 15;
        let code = (low | (two_bits(high, at) << 4)) as i8 - 32;
        scale * f32::from(scales[at / 16] as i8) * f32::from(code)
    });
}

pub(super) fn iq4_nl(block: &[u8], out: &mut [f32]) {
    let (scale, codes) = (half(block, 0), &block[2..]);
    let value = |at| NON_LINEAR[usize::from(nibble(codes, at))];
    fill(out, |at| scale * f32::from(value(at)));
}

pub(super) fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (low, codes) = (&block[4..8], &block[8..]);
    for (group, out) in out.chunks_mut(32).enumerate() {
        let low = (low[group / 2] >> (4 * (group % 2))) & 15;
        let high = (high >> (2 * group)) as u8 & 3;
        let scale = scale * f32::from((low | (high << 4)) as i8 - 32);
        let codes = &codes[16 * group..][..16];
        let value = |at| NON_LINEAR[usize::from(nibble(codes, at))];
        fill(out, |at| scale * f32::from(value(at)));
    }
}

pub(super) fn mxfp4(block: &[u8], out: &mut [f32]) {
    let (exponent, codes) = (u32::from(block[0]), &block[1..]);
    // Half a power of two, since the table holds twice the values.
    let bits = match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => (exponent - 1) << 23,
    };
    let scale = f32::from_bits(bits);
    let value = |at| E2M1[usize::from(nibble(codes, at))];
    fill(out, |at| scale * f32::from(value(at)));
}
