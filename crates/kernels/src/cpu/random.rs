//! Random numbers that are a function of a seed and a place, so that none has to be kept.

/// A 32-bit mix in which every bit of the input changes half of the output's bits
/// (constants of C. Wellons' `lowbias32`).
#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The key of a row.
#[inline(always)]
pub fn row_key(seed: u64, row: u64) -> u32 {
    let low = mix(seed as u32 ^ mix(row as u32));
    mix(low ^ (seed >> 32) as u32 ^ mix((row >> 32) as u32 ^ 0x9e37_79b9))
}

/// 32 random bits for a column of a row.
#[inline(always)]
pub fn bits(row_key: u32, column: u32) -> u32 {
    mix(row_key ^ column.wrapping_mul(0x9e37_79b9))
}
