//! Blockwise quantisation: codes of 4 or 8 bits stand for the values of a table, times the largest
//! magnitude of their block.

use std::sync::LazyLock;

use half::bf16;
use rayon::prelude::*;

/// The number of values that share one scale.
pub const BLOCK: usize = 64;

/// The 16 values of NF4: quantiles of the normal distribution, scaled to [-1, 1], one of them zero
/// (arXiv 2305.14314, appendix E).
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The magnitudes of bitsandbytes' FP4 (a sign, two bits of exponent, one of mantissa), in the
/// order of their codes and divided by the largest, which is 12.
const FP4: [f32; 8] = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0];

/// What the codes of a quantised weight stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantType {
    /// 4-bit NormalFloat: a table made for normally distributed weights.
    Nf4,
    /// A 4-bit floating-point number.
    Fp4,
    /// An integer from -127 to 127, divided by 127.
    Int8,
}

/// The values of a type's codes, and the bounds between them.
#[derive(Debug)]
pub struct CodeBook {
    /// The value of every code.
    pub values: Vec<f32>,
    /// The codes in the order of their values.
    order: Vec<u8>,
    /// Half-way between neighbouring values in that order, so that a number gets the nearest value.
    bounds: Vec<f32>,
}

impl CodeBook {
    /// A book in which numbers are rounded only to the values of `codes`.
    fn new(values: Vec<f32>, codes: impl Iterator<Item = u8>) -> Self {
        let mut order: Vec<u8> = codes.collect();
        let value = |code: &u8| values[usize::from(*code)];
        order.sort_by(|a, b| value(a).total_cmp(&value(b)));
        let pairs = order.windows(2);
        let bounds = pairs.map(|pair| (value(&pair[0]) + value(&pair[1])) / 2.0);
        Self {
            bounds: bounds.collect(),
            order,
            values,
        }
    }

    /// The code of the value nearest to `number`; half-way between two, that of the smaller one.
    fn code(&self, number: f32) -> u8 {
        self.order[self.bounds.partition_point(|&bound| bound < number)]
    }
}

impl QuantType {
    /// The bits per code: 4 or 8.
    pub fn bits(self) -> usize {
        match self {
            Self::Nf4 | Self::Fp4 => 4,
            Self::Int8 => 8,
        }
    }

    /// The values of the codes.
    pub fn code_book(self) -> &'static CodeBook {
        static NF4_BOOK: LazyLock<CodeBook> = LazyLock::new(|| CodeBook::new(NF4.to_vec(), 0..16));
        static FP4_BOOK: LazyLock<CodeBook> = LazyLock::new(|| {
            let positive = FP4.map(|magnitude| magnitude / 12.0);
            let negative = positive.map(|magnitude| -magnitude);
            // The second zero, code 8, is never written: it has the same value as the first.
            CodeBook::new(
                [positive, negative].concat(),
                (0..16).filter(|&code| code != 8),
            )
        });
        static INT8_BOOK: LazyLock<CodeBook> = LazyLock::new(|| {
            let values = (0..=255).map(|code| (code as f32 - 128.0) / 127.0);
            CodeBook::new(values.collect(), 1..=255)
        });
        match self {
            Self::Nf4 => &NF4_BOOK,
            Self::Fp4 => &FP4_BOOK,
            Self::Int8 => &INT8_BOOK,
        }
    }

    /// The number of bytes that the codes of `blocks` blocks take.
    fn bytes(self, blocks: usize) -> usize {
        blocks * BLOCK * self.bits() / 8
    }
}

/// Returns the codes of `numbers`, block after block, the last block padded with the codes of
/// zeros, and the scale of each block. The first of two codes in a byte has the high half, as in
/// bitsandbytes.
pub fn quantize(numbers: &[f32], quant_type: QuantType) -> (Vec<u8>, Vec<f32>) {
    let book = quant_type.code_book();
    let blocks = numbers.len().div_ceil(BLOCK);
    let mut codes = vec![0; quant_type.bytes(blocks)];
    let mut scales = vec![0.0; blocks];
    (codes.par_chunks_mut(quant_type.bytes(1)))
        .zip(scales.par_iter_mut())
        .zip(numbers.par_chunks(BLOCK))
        .for_each(|((codes, scale), numbers)| {
            *scale = numbers.iter().fold(0.0, |most, x| x.abs().max(most));
            let inverse = 1.0 / scale.max(1e-38);
            let code = |index: usize| {
                let number = numbers.get(index).copied().unwrap_or(0.0);
                book.code((number * inverse).clamp(-1.0, 1.0))
            };
            match quant_type.bits() {
                4 => (codes.iter_mut().enumerate())
                    .for_each(|(i, byte)| *byte = code(2 * i) << 4 | code(2 * i + 1)),
                _ => (codes.iter_mut().enumerate()).for_each(|(i, byte)| *byte = code(i)),
            }
        });
    (codes, scales)
}

/// A type that a weight is made dense in.
pub trait Dense: Copy + Send + Sync {
    /// The value nearest to a number in 32 bits.
    fn of(number: f32) -> Self;
}

impl Dense for f32 {
    fn of(number: f32) -> Self {
        number
    }
}

impl Dense for bf16 {
    fn of(number: f32) -> Self {
        Self::from_f32(number)
    }
}

/// Returns the first `length` numbers that these codes and scales stand for.
///
/// # Panics
/// If there are fewer.
pub fn dequantize<T: Dense>(
    codes: &[u8],
    scales: &[f32],
    quant_type: QuantType,
    length: usize,
) -> Vec<T> {
    /// Blocks of one task.
    const TASK: usize = 256;
    let values = &quant_type.code_book().values;
    assert!(length <= scales.len() * BLOCK && quant_type.bytes(scales.len()) <= codes.len());
    let mut numbers = Vec::with_capacity(length);
    // The two values of each byte.
    let pair = |byte: usize| [values[byte >> 4], values[byte & 15]];
    let pairs: Vec<[f32; 2]> = match quant_type.bits() {
        4 => (0..256).map(pair).collect(),
        _ => Vec::new(),
    };
    let room = &mut numbers.spare_capacity_mut()[..length];
    (room.par_chunks_mut(TASK * BLOCK))
        .zip(codes.par_chunks(quant_type.bytes(TASK)))
        .zip(scales.par_chunks(TASK))
        .for_each(|((numbers, codes), scales)| {
            let blocks = numbers
                .chunks_mut(BLOCK)
                .zip(codes.chunks(quant_type.bytes(1)));
            for ((numbers, codes), &scale) in blocks.zip(scales) {
                if quant_type.bits() == 8 {
                    for (number, &code) in numbers.iter_mut().zip(codes) {
                        number.write(T::of(values[usize::from(code)] * scale));
                    }
                    continue;
                }
                for (numbers, &byte) in numbers.chunks_mut(2).zip(codes) {
                    let pair = pairs[usize::from(byte)];
                    for (number, value) in numbers.iter_mut().zip(pair) {
                        number.write(T::of(value * scale));
                    }
                }
            }
        });
    // SAFETY: there are codes and scales for all numbers, so the loops have written every one.
    unsafe { numbers.set_len(length) };
    numbers
}
