//! Single values, and blocks of 32 with one scale.

/// A value as it is.
pub fn f32(values: &[f32], out: &mut [u8]) {
    out.copy_from_slice(&values[0].to_le_bytes());
}

/// A value in float16; infinite beyond its range.
pub fn f16(values: &[f32], out: &mut [u8]) {
    put_half(out, 0, values[0]);
}

/// A value in bfloat16.
pub fn bf16(values: &[f32], out: &mut [u8]) {
    out.copy_from_slice(&half::bf16::from_f32(values[0]).to_le_bytes());
}

/// Writes a number in float16.
pub(super) fn put_half(out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
}

/// The factor that replaces a division by the scale.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The value that is furthest from 0, the first of several.
fn furthest(values: &[f32]) -> f32 {
    let further = |most: f32, &value: &f32| {
        if value.abs() > most.abs() {
            value
        } else {
            most
        }
    };
    values.iter().fold(0.0, further)
}

/// The least and the largest value.
fn ends(values: &[f32]) -> (f32, f32) {
    let first = (values[0], values[0]);
    let wider = |(least, most): (f32, f32), &value: &f32| (least.min(value), most.max(value));
    values.iter().fold(first, wider)
}

/// Integers from -127 to 127.
pub fn q8_0(values: &[f32], out: &mut [u8]) {
    let scale = furthest(values).abs() / 127.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    for (out, value) in out[2..].iter_mut().zip(values) {
        *out = (value * inverse).round() as i8 as u8;
    }
}

/// The lower 4 bits of the codes of 32 values, two values to a byte; `code` makes a value's code.
fn nibbles(values: &[f32], out: &mut [u8], code: impl Fn(f32) -> u8) {
    for (at, out) in out.iter_mut().enumerate() {
        *out = (code(values[at]) & 15) | ((code(values[at + 16]) & 15) << 4);
    }
}

/// The fifth bits of the codes of 32 values.
fn fifths(values: &[f32], code: impl Fn(f32) -> u8) -> [u8; 4] {
    let bit = |bits: u32, (at, &value): (usize, &f32)| bits | (u32::from(code(value) >> 4) << at);
    values.iter().enumerate().fold(0, bit).to_le_bytes()
}

/// 16 steps, with the value furthest from 0 at one end.
pub fn q4_0(values: &[f32], out: &mut [u8]) {
    let scale = furthest(values) / -8.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    nibbles(values, &mut out[2..], |value| {
        ((value * inverse + 8.5) as u8).min(15)
    });
}

/// 16 steps from the least value to the largest.
pub fn q4_1(values: &[f32], out: &mut [u8]) {
    let (least, most) = ends(values);
    let scale = (most - least) / 15.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    put_half(out, 2, least);
    nibbles(values, &mut out[4..], |value| {
        (((value - least) * inverse + 0.5) as u8).min(15)
    });
}

/// 32 steps, with the value furthest from 0 at one end.
pub fn q5_0(values: &[f32], out: &mut [u8]) {
    let scale = furthest(values) / -16.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    let code = |value: f32| ((value * inverse + 16.5) as u8).min(31);
    out[2..6].copy_from_slice(&fifths(values, code));
    nibbles(values, &mut out[6..], code);
}

/// 32 steps from the least value to the largest.
pub fn q5_1(values: &[f32], out: &mut [u8]) {
    let (least, most) = ends(values);
    let scale = (most - least) / 31.0;
    let inverse = inverse(scale);
    put_half(out, 0, scale);
    put_half(out, 2, least);
    let code = |value: f32| (((value - least) * inverse + 0.5) as u8).min(31);
    out[4..8].copy_from_slice(&fifths(values, code));
    nibbles(values, &mut out[8..], code);
}
