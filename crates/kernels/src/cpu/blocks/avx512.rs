//! Unpacks blocks in registers, with AVX-512; every value has the same bits as in
//! [`super::values`].

use std::arch::x86_64::*;

use super::BlockType;
use super::types_avx512::*;

/// Whether the processor has the features that this module needs.
pub(in crate::cpu) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("f16c")
}

/// A line of values, as it lies in memory.
pub(in crate::cpu) trait Line {
    /// Calls `visit` for each 32 values from `from`, a multiple of 32, to before `to`: with their
    /// place, masks of those that exist, and the values, which are zero beyond them.
    ///
    /// # Safety
    /// The processor must have the features of [`is_available`], and `line` must point to the line.
    unsafe fn visit(
        line: *const u8,
        from: usize,
        to: usize,
        visit: impl FnMut(usize, [u16; 2], [__m512; 2]),
    );
}

/// Values in blocks of whole groups of 32.
pub(super) trait Blocks {
    /// The values and bytes of a block.
    const OF: BlockType;
    /// What all groups of a block share, such as scales.
    type Head: Copy;

    /// # Safety
    /// As for [`Line::visit`], for a block.
    unsafe fn head(block: *const u8) -> Self::Head;

    /// 32 values of a block.
    ///
    /// # Safety
    /// As for [`Line::visit`], for a block that has such a group.
    unsafe fn group(block: *const u8, head: Self::Head, group: usize) -> [__m512; 2];
}

impl<T: Blocks> Line for T {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn visit(
        line: *const u8,
        from: usize,
        to: usize,
        mut visit: impl FnMut(usize, [u16; 2], [__m512; 2]),
    ) {
        let (values, bytes) = (const { T::OF.values() }, const { T::OF.bytes() });
        let mut place = from;
        while place < to {
            let block = line.wrapping_add(place / values * bytes);
            // SAFETY: the caller's promise; the block holds the place.
            unsafe {
                let head = T::head(block);
                if values == 32 {
                    visit(place, [u16::MAX; 2], T::group(block, head, 0));
                    place += 32;
                    continue;
                }
                let first = place % values / 32;
                for group in first..(values / 32).min(first + (to - place).div_ceil(32)) {
                    visit(place, [u16::MAX; 2], T::group(block, head, group));
                    place += 32;
                }
            }
        }
    }
}

/// A line of single values, without blocks.
macro_rules! plain_line {
    ($name:ident, $bytes:literal, |$from:ident| $load:expr, |$some:ident, $mask:ident| $load_some:expr) => {
        pub(in crate::cpu) struct $name;

        impl Line for $name {
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
            unsafe fn visit(
                line: *const u8,
                from: usize,
                to: usize,
                mut visit: impl FnMut(usize, [u16; 2], [__m512; 2]),
            ) {
                let at = |place: usize| line.wrapping_add(place * $bytes);
                let mut place = from;
                while place + 32 <= to {
                    // SAFETY: the values are in the line.
                    let load = |$from: *const u8| unsafe { $load };
                    let values = [load(at(place)), load(at(place + 16))];
                    visit(place, [u16::MAX; 2], values);
                    place += 32;
                }
                if place < to {
                    let masks = [mask(to - place), mask((to - place).saturating_sub(16))];
                    // SAFETY: the masks keep to the line.
                    let load = |$some: *const u8, $mask: u16| unsafe { $load_some };
                    let values = [load(at(place), masks[0]), load(at(place + 16), masks[1])];
                    visit(place, masks, values);
                }
            }
        }
    };
}

fn mask(count: usize) -> u16 {
    ((1u32 << count.min(16)) - 1) as u16
}

/// The values of bits in bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(bits: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

plain_line!(F32, 4, |from| _mm512_loadu_ps(from.cast()), |from, mask| {
    _mm512_maskz_loadu_ps(mask, from.cast())
});
plain_line!(
    F16,
    2,
    |from| _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
    |from, mask| _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from.cast()))
);
plain_line!(
    BF16,
    2,
    |from| widened(_mm256_loadu_si256(from.cast())),
    |from, mask| widened(_mm256_maskz_loadu_epi16(mask, from.cast()))
);

/// Work on lines of any type.
pub(in crate::cpu) trait Work {
    /// The result.
    type Output;

    /// # Safety
    /// As for [`Line::visit`], and what the work itself requires.
    unsafe fn run<L: Line>(self) -> Self::Output;
}

/// Runs the work on lines of a type.
///
/// # Safety
/// As for [`Work::run`].
pub(in crate::cpu) unsafe fn dispatch<W: Work>(of: BlockType, work: W) -> W::Output {
    // SAFETY: the caller's promise.
    unsafe {
        match of {
            BlockType::F32 => work.run::<F32>(),
            BlockType::F16 => work.run::<F16>(),
            BlockType::BF16 => work.run::<BF16>(),
            BlockType::Q8_0 => work.run::<Q8_0>(),
            BlockType::Q4_0 => work.run::<Q4_0>(),
            BlockType::Q4_1 => work.run::<Q4_1>(),
            BlockType::Q5_0 => work.run::<Q5_0>(),
            BlockType::Q5_1 => work.run::<Q5_1>(),
            BlockType::Q2_K => work.run::<Q2_K>(),
            BlockType::Q3_K => work.run::<Q3_K>(),
            BlockType::Q4_K => work.run::<Q4_K>(),
            BlockType::Q5_K => work.run::<Q5_K>(),
            BlockType::Q6_K => work.run::<Q6_K>(),
            BlockType::IQ4_NL => work.run::<IQ4_NL>(),
            BlockType::IQ4_XS => work.run::<IQ4_XS>(),
            BlockType::MXFP4 => work.run::<MXFP4>(),
        }
    }
}

/// Writes values of a line in f32.
struct Unpack {
    line: *const u8,
    from: usize,
    to: usize,
    out: *mut f32,
}

impl Work for Unpack {
    type Output = ();

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn run<L: Line>(self) {
        let Self {
            line,
            from,
            to,
            out,
        } = self;
        // SAFETY: the caller's promise; masks keep to the values that exist.
        unsafe {
            L::visit(line, from, to, |place, masks, values| {
                for half in 0..2 {
                    let out = out.wrapping_add(place - from + 16 * half);
                    _mm512_mask_storeu_ps(out, masks[half], values[half]);
                }
            })
        }
    }
}

/// Writes the values of a line from `from`, a multiple of 32, to before `to`; blocks are written in
/// whole groups of 32.
///
/// # Safety
/// As for [`Line::visit`]; `out` must have room for the values.
pub(in crate::cpu) unsafe fn unpack(
    of: BlockType,
    line: *const u8,
    from: usize,
    to: usize,
    out: *mut f32,
) {
    let work = Unpack {
        line,
        from,
        to,
        out,
    };
    // SAFETY: the caller's promise.
    unsafe { dispatch(of, work) }
}
