//! The values of a block of each type, in registers.
//!
//! A value of 4 bits is looked up in a table of the 16 values that its block can have, which is one
//! register; a fifth bit selects a second register. All sums and products are those of
//! [`super::values`], in their order.

#![expect(non_camel_case_types, reason = "ggml's names")]

use std::arch::x86_64::*;

use super::BlockType;
use super::avx512::Blocks;
use super::values::{E2M1, NON_LINEAR};

/// A number in half precision, in every lane.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn half(at: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    let bits = unsafe { at.cast::<u16>().read_unaligned() };
    _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[inline]
unsafe fn word(at: *const u8) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { at.cast::<u32>().read_unaligned() }
}

/// 16 bytes, one in each lane.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn lanes(at: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(at.cast()) })
}

/// The 16 numbers `first`, `first + 1`, ….
#[inline]
#[target_feature(enable = "avx512f")]
fn count(first: f32) -> __m512 {
    let from_zero = _mm512_setr_ps(
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    );
    _mm512_add_ps(from_zero, _mm512_set1_ps(first))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(table: &[i8; 16]) -> __m512 {
    // SAFETY: the table is 16 bytes.
    let bytes = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
}

/// One of 16 numbers, in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn pick(numbers: __m512, lane: usize) -> __m512 {
    _mm512_permutexvar_ps(_mm512_set1_epi32(lane as i32), numbers)
}

/// The values that the lowest 4 bits of each lane stand for.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up(codes: __m512i, table: __m512) -> __m512 {
    _mm512_permutexvar_ps(codes, table)
}

/// The same with a fifth bit, which selects the second table.
#[inline]
#[target_feature(enable = "avx512f")]
fn look_up_five(codes: __m512i, fifth: u16, tables: [__m512; 2]) -> __m512 {
    let low = _mm512_permutexvar_ps(codes, tables[0]);
    _mm512_mask_permutexvar_ps(low, fifth, codes, tables[1])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shifted(codes: __m512i, bits: usize) -> __m512i {
    _mm512_srl_epi32(codes, _mm_cvtsi32_si128(bits as i32))
}

/// The lanes of 16 bytes that have this bit set.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn with_bit(at: *const u8, bit: usize) -> u16 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadu_si128(at.cast()) };
    _mm_test_epi8_mask(bytes, _mm_set1_epi8((1u8 << bit) as i8))
}

/// Defines a type by what a block's groups share and how 32 values are made.
macro_rules! blocks {
    ($($name:ident: $head:ty, |$block:ident| $make:expr, |$head_name:ident, $group:ident| $values:expr;)*) => {$(
        pub(in crate::cpu) struct $name;

        impl Blocks for $name {
            const OF: BlockType = BlockType::$name;
            type Head = $head;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
            unsafe fn head($block: *const u8) -> $head {
                // SAFETY: everything that is read is inside the block.
                unsafe { $make }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
            unsafe fn group($block: *const u8, $head_name: $head, $group: usize) -> [__m512; 2] {
                let _ = $group;
                // SAFETY: everything that is read is inside the block.
                unsafe { $values }
            }
        }
    )*};
}

blocks! {
    Q8_0: __m512, |block| half(block), |scale, group| {
        let codes = |half: usize| _mm_loadu_si128(block.add(2 + 16 * half).cast());
        let value = |codes| _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), scale);
        [value(codes(0)), value(codes(1))]
    };
    Q4_0: __m512, |block| _mm512_mul_ps(half(block), count(-8.0)), |table, group| {
        nibbles(block.add(2), table)
    };
    Q4_1: __m512, |block| {
        _mm512_add_ps(_mm512_mul_ps(half(block), count(0.0)), half(block.add(2)))
    }, |table, group| nibbles(block.add(4), table);
    IQ4_NL: __m512, |block| _mm512_mul_ps(half(block), numbers(&NON_LINEAR)), |table, group| {
        nibbles(block.add(2), table)
    };
    MXFP4: __m512, |block| {
        let exponent = u32::from(*block);
        let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 };
        _mm512_mul_ps(_mm512_set1_ps(f32::from_bits(bits)), numbers(&E2M1))
    }, |table, group| nibbles(block.add(1), table);
    Q5_0: [__m512; 2], |block| {
        let scale = half(block);
        [_mm512_mul_ps(scale, count(-16.0)), _mm512_mul_ps(scale, count(0.0))]
    }, |tables, group| nibbles_and_bits(block.add(6), word(block.add(2)), tables);
    Q5_1: [__m512; 2], |block| {
        let (scale, least) = (half(block), half(block.add(2)));
        [0.0, 16.0].map(|first| _mm512_add_ps(_mm512_mul_ps(scale, count(first)), least))
    }, |tables, group| nibbles_and_bits(block.add(8), word(block.add(4)), tables);
    Q2_K: [__m512; 2], |block| {
        let both = lanes(block);
        let low = _mm512_and_si512(both, _mm512_set1_epi32(15));
        [
            _mm512_mul_ps(half(block.add(80)), _mm512_cvtepi32_ps(low)),
            _mm512_mul_ps(half(block.add(82)), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(both))),
        ]
    }, |head, group| {
        let codes = two_bits(block.add(16), group);
        let value = |half: usize| {
            let [scale, least] = head.map(|of| pick(of, 2 * group + half));
            _mm512_sub_ps(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(codes[half])), least)
        };
        [value(0), value(1)]
    };
    Q3_K: __m512, |block| {
        let [a, b, top] = [96, 100, 104].map(|at| word(block.add(at)));
        let low = |four: u32| four & 0x0f0f_0f0f;
        let high = |bits: u32| (top >> bits & 0x0303_0303) << 4;
        let words = [
            low(a) | high(0),
            low(b) | high(2),
            low(a >> 4) | high(4),
            low(b >> 4) | high(6),
        ];
        let codes = _mm512_sub_epi32(lanes(words.as_ptr().cast()), _mm512_set1_epi32(32));
        _mm512_mul_ps(half(block.add(108)), _mm512_cvtepi32_ps(codes))
    }, |scales, group| {
        let codes = two_bits(block.add(32), group);
        let value = |half: usize| {
            let is_low = !with_bit(block.add(16 * half), group);
            let four = _mm512_set1_epi32(4);
            let code = _mm512_mask_sub_epi32(codes[half], is_low, codes[half], four);
            _mm512_mul_ps(pick(scales, 2 * group + half), _mm512_cvtepi32_ps(code))
        };
        [value(0), value(1)]
    };
    Q4_K: __m512, |block| scales_and_leasts(block), |head, group| {
        let (scale, least) = (pick(head, group), pick(head, 8 + group));
        let table = _mm512_sub_ps(_mm512_mul_ps(scale, count(0.0)), least);
        let codes = block.add(16 + group / 2 * 32);
        let bits = 4 * (group % 2);
        let value = |half: usize| look_up(shifted(lanes(codes.add(16 * half)), bits), table);
        [value(0), value(1)]
    };
    Q5_K: __m512, |block| scales_and_leasts(block), |head, group| {
        let (scale, least) = (pick(head, group), pick(head, 8 + group));
        let table = |first| _mm512_sub_ps(_mm512_mul_ps(scale, count(first)), least);
        let tables = [table(0.0), table(16.0)];
        let codes = block.add(48 + group / 2 * 32);
        let bits = 4 * (group % 2);
        let value = |half: usize| {
            let fifth = with_bit(block.add(16 + 16 * half), group);
            look_up_five(shifted(lanes(codes.add(16 * half)), bits), fifth, tables)
        };
        [value(0), value(1)]
    };
    Q6_K: __m512, |block| {
        let scales = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(192).cast()));
        _mm512_mul_ps(half(block.add(208)), _mm512_cvtepi32_ps(scales))
    }, |scales, group| {
        let high = two_bits(block.add(128), group);
        let low = block.add(group / 4 * 64 + group % 2 * 32);
        let bits = 4 * (group % 4 / 2);
        let value = |half: usize| {
            let low = shifted(lanes(low.add(16 * half)), bits);
            let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
            let code = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high[half]));
            let code = _mm512_sub_epi32(code, _mm512_set1_epi32(32));
            _mm512_mul_ps(pick(scales, 2 * group + half), _mm512_cvtepi32_ps(code))
        };
        [value(0), value(1)]
    };
    IQ4_XS: __m512, |block| {
        let high = i32::from(block.add(2).cast::<u16>().read_unaligned());
        let low = _mm512_set1_epi32(word(block.add(4)) as i32);
        let fours = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
        let low = _mm512_and_si512(_mm512_srlv_epi32(low, fours), _mm512_set1_epi32(15));
        let twos = _mm512_srli_epi32::<1>(fours);
        let high = _mm512_srlv_epi32(_mm512_set1_epi32(high), twos);
        let high = _mm512_and_si512(high, _mm512_set1_epi32(3));
        let codes = _mm512_or_si512(low, _mm512_slli_epi32::<4>(high));
        let codes = _mm512_sub_epi32(codes, _mm512_set1_epi32(32));
        _mm512_mul_ps(half(block), _mm512_cvtepi32_ps(codes))
    }, |scales, group| {
        let table = _mm512_mul_ps(pick(scales, group), numbers(&NON_LINEAR));
        nibbles(block.add(8 + 16 * group), table)
    };
}

/// The 32 values of 16 bytes: first those of the lower bits.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn nibbles(codes: *const u8, table: __m512) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    let codes = unsafe { lanes(codes) };
    let high = _mm512_srli_epi32::<4>(codes);
    [look_up(codes, table), look_up(high, table)]
}

/// The same with a fifth bit for each value.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn nibbles_and_bits(codes: *const u8, fifth: u32, tables: [__m512; 2]) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    let codes = unsafe { lanes(codes) };
    let high = _mm512_srli_epi32::<4>(codes);
    [
        look_up_five(codes, fifth as u16, tables),
        look_up_five(high, (fifth >> 16) as u16, tables),
    ]
}

/// 2 bits of each of 32 values; 32 bytes hold 4 groups, the lowest bits first.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn two_bits(codes: *const u8, group: usize) -> [__m512i; 2] {
    [0, 16].map(|from| {
        // SAFETY: the caller's promise.
        let codes = unsafe { lanes(codes.add(group / 4 * 32 + from)) };
        _mm512_and_si512(shifted(codes, 2 * (group % 4)), _mm512_set1_epi32(3))
    })
}

/// The scales of the 8 groups of `Q4_K` and `Q5_K`, then their minimums, from 6 bits each.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn scales_and_leasts(block: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    let ([a, b, c], [scale, least]) = unsafe {
        (
            [4, 8, 12].map(|at| word(block.add(at))),
            [half(block), half(block.add(2))],
        )
    };
    let six = |four: u32| four & 0x3f3f_3f3f;
    let low = |four: u32| four & 0x0f0f_0f0f;
    let high = |four: u32| four >> 2 & 0x3030_3030;
    let words = [six(a), low(c) | high(a), six(b), low(c >> 4) | high(b)];
    // SAFETY: the words are 16 bytes.
    let codes = unsafe { lanes(words.as_ptr().cast()) };
    let both = _mm512_mask_mov_ps(scale, 0xff00, least);
    _mm512_mul_ps(both, _mm512_cvtepi32_ps(codes))
}
