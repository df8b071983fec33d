//! Blocks of 256 values whose groups have scales of their own (llama.cpp's K-quants). Scales are
//! searched for: the one with the smallest weighted sum of squared errors is taken.
//!
//! Every sum is in float32 and in the order of the reference, so that the bits are the same.

use half::f16;

use super::small::put_half;

/// Below this a group is all zeros.
const NOTHING: f32 = 1e-15;

/// Rounds a number below 2^22 to the nearest integer, halves to even. The sum has no bits for a
/// fraction, and holds the integer in its lowest 23 bits.
fn nearest(value: f32) -> i32 {
    let sum = (value + 12_582_912.0).to_bits();
    (sum & 0x007f_ffff) as i32 - 0x0040_0000
}

/// A number rounded to float16.
fn halved(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

/// A group of 32 values, each of which is `scale` times its code, less `below`, which is at least
/// 0.
struct Steps {
    scale: f32,
    below: f32,
    /// The codes that are written if the scale rounds to 0.
    codes: [f32; 32],
}

/// The last code of a group with 4 bits.
const LAST: f32 = 15.0;

/// The code of a value, with `inverse` codes per unit from `least` on.
fn step(value: f32, least: f32, inverse: f32) -> f32 {
    nearest(inverse * (value - least)).clamp(0, LAST as i32) as f32
}

fn error(values: &[f32], weights: &[f32], codes: &[f32], scale: f32, least: f32) -> f32 {
    let mut sum = 0.0;
    for ((value, weight), code) in values.iter().zip(weights).zip(codes) {
        let off = scale * code + least - value;
        sum += weight * (off * off);
    }
    sum
}

/// Searches for the scale and the least value of a group. It tries 21 scales, and for the codes of
/// each takes the line that fits the weighted values best.
fn search_steps(values: &[f32], weights: &[f32]) -> Steps {
    let (mut least, mut most) = (values[0], values[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * values[0]);
    for (&value, &weight) in values.iter().zip(weights).skip(1) {
        least = least.min(value);
        most = most.max(value);
        sum_w += weight;
        sum_x += weight * value;
    }
    least = least.min(0.0);
    if most == least {
        return Steps {
            scale: 0.0,
            below: -least,
            codes: [0.0; 32],
        };
    }
    let width = most - least;
    let inverse = LAST / width;
    let mut scale = 1.0 / inverse;
    let mut codes = [0.0f32; 32];
    let code_all = |codes: &mut [f32; 32], least: f32, inverse: f32| {
        for (code, &value) in codes.iter_mut().zip(values) {
            *code = step(value, least, inverse);
        }
    };
    code_all(&mut codes, least, inverse);
    let mut best = error(values, weights, &codes, scale, least);
    let mut kept = codes;
    for attempt in 0..=20 {
        let inverse = (-1.0 + 0.1 * attempt as f32 + LAST) / (most - least);
        code_all(&mut codes, least, inverse);
        let (mut sum_l, mut sum_ll, mut sum_xl) = (0.0f32, 0.0f32, 0.0f32);
        for ((value, weight), code) in values.iter().zip(weights).zip(&codes) {
            sum_l += weight * code;
            sum_ll += weight * code * code;
            sum_xl += weight * code * value;
        }
        let apart = sum_w * sum_ll - sum_l * sum_l;
        if apart > 0.0 {
            let mut tried = (sum_w * sum_xl - sum_x * sum_l) / apart;
            let mut from = (sum_ll * sum_x - sum_l * sum_xl) / apart;
            if from > 0.0 {
                from = 0.0;
                tried = sum_xl / sum_ll;
            }
            let off = error(values, weights, &codes, tried, from);
            if off < best {
                (best, scale, least, kept) = (off, tried, from, codes);
            }
        }
    }
    Steps {
        scale,
        below: -least,
        codes: kept,
    }
}

/// 8 groups of 32 values, each with a scale and a least value of 6 bits.
pub fn q4_k(values: &[f32], out: &mut [u8]) {
    let groups = values.chunks_exact(32).map(|group| {
        let squares = group.iter().fold(0.0f32, |sum, value| sum + value * value);
        let mean = (squares / 32.0).sqrt();
        let weights: [f32; 32] = std::array::from_fn(|at| mean + group[at].abs());
        search_steps(group, &weights)
    });
    let groups: Vec<Steps> = groups.collect();
    let most = |part: fn(&Steps) -> f32| groups.iter().map(part).fold(0.0, f32::max);
    let (scale, below) = (most(|group| group.scale), most(|group| group.below));
    let share = |largest: f32| if largest > 0.0 { 63.0 / largest } else { 0.0 };
    let (by_scale, by_below) = (share(scale), share(below));
    put_half(out, 0, scale / 63.0);
    put_half(out, 2, below / 63.0);
    let (scale, below) = (halved(scale / 63.0), halved(below / 63.0));
    let (sixes, codes) = out[4..].split_at_mut(12);
    sixes.fill(0);
    codes.fill(0);
    for (at, (group, values)) in groups.iter().zip(values.chunks_exact(32)).enumerate() {
        let of_scale = (nearest(by_scale * group.scale) as u8).min(63);
        let of_below = (nearest(by_below * group.below) as u8).min(63);
        if at < 4 {
            sixes[at] |= of_scale;
            sixes[at + 4] |= of_below;
        } else {
            sixes[at + 4] = (of_scale & 15) | ((of_below & 15) << 4);
            sixes[at - 4] |= (of_scale >> 4) << 6;
            sixes[at] |= (of_below >> 4) << 6;
        }
        let (scale, below) = (scale * f32::from(of_scale), below * f32::from(of_below));
        let codes = &mut codes[at / 2 * 32..][..32];
        for ((code, value), found) in codes.iter_mut().zip(values).zip(&group.codes) {
            let of_value = if scale == 0.0 {
                *found as u8
            } else {
                nearest((value + below) / scale).clamp(0, 15) as u8
            };
            *code |= of_value << (4 * (at % 2));
        }
    }
}

/// The signed 6-bit code of a value.
fn signed(value: f32, inverse: f32) -> f32 {
    nearest(inverse * value).clamp(-32, 31) as f32
}

/// Searches for the scale of a group of 16 values among 19. Returns it and the factor that turns
/// the values into codes; both are 0 for a group of zeros.
fn search_scale(values: &[f32]) -> (f32, f32) {
    let mut most = 0.0f32;
    for &value in values {
        if value.abs() > most.abs() {
            most = value;
        }
    }
    if most.abs() < NOTHING {
        return (0.0, 0.0);
    }
    let sums = |inverse: f32| {
        let (mut sum_lx, mut sum_ll) = (0.0f32, 0.0f32);
        for &value in values {
            let code = signed(value, inverse);
            let weight = value * value;
            sum_lx += weight * value * code;
            sum_ll += weight * code * code;
        }
        (sum_lx, sum_ll)
    };
    let mut kept = -32.0 / most;
    let (sum_lx, sum_ll) = sums(kept);
    let mut scale = if sum_ll == 0.0 { 0.0 } else { sum_lx / sum_ll };
    let mut best = scale * sum_lx;
    for attempt in (-9..=9).filter(|&attempt| attempt != 0) {
        let inverse = -(32.0 + 0.1 * attempt as f32) / most;
        let (sum_lx, sum_ll) = sums(inverse);
        if sum_ll > 0.0 && sum_lx * sum_lx > best * sum_ll {
            scale = sum_lx / sum_ll;
            (best, kept) = (scale * sum_lx, inverse);
        }
    }
    (scale, kept)
}

/// 16 groups of 16 values, each with a scale of 8 bits.
pub fn q6_k(values: &[f32], out: &mut [u8]) {
    out.fill(0);
    let mut scales = [(0.0f32, 0.0f32); 16];
    let mut most = 0.0f32;
    for (found, group) in scales.iter_mut().zip(values.chunks_exact(16)) {
        *found = search_scale(group);
        if found.0.abs() > most.abs() {
            most = found.0;
        }
    }
    if most.abs() < NOTHING {
        return;
    }
    let inverse = -128.0 / most;
    put_half(out, 208, 1.0 / inverse);
    let whole = halved(1.0 / inverse);
    let mut codes = [0u8; 256];
    for (at, group) in values.chunks_exact(16).enumerate() {
        let (scale, found) = scales[at];
        let of_scale = nearest(inverse * scale).min(127) as i8;
        out[192 + at] = of_scale as u8;
        let scale = whole * f32::from(of_scale);
        for (code, value) in codes[16 * at..].iter_mut().zip(group) {
            // If the scale rounds to 0, the codes of the search are taken; a group of zeros has
            // none.
            *code = if scale != 0.0 {
                (nearest(value / scale).clamp(-32, 31) + 32) as u8
            } else if found != 0.0 {
                (signed(*value, found) + 32.0) as u8
            } else {
                0
            };
        }
    }
    for (at, code) in codes.into_iter().enumerate() {
        let (half, place) = (at / 128, at % 128);
        out[64 * half + place % 64] |= (code & 15) << (4 * (place / 64));
        out[128 + 32 * half + place % 32] |= (code >> 4) << (2 * (place / 32));
    }
}
