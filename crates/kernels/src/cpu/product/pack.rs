//! Copies of blocks of A and B in the order in which the tiles read them.
//!
//! A word is 32 bits along k: an f32, or two bf16 neighbours with the earlier one in the low half.
//! A is `[rows][A_STRIDE]` words, B is one panel `[depth][32]` (or `[depth][16]`) after another.
//! Vectors that a block does not fill are padded with zeros.

use std::arch::x86_64::*;

use super::micro::{A_STRIDE, TILE_VECTORS};

/// A block of a matrix in memory: its first element, its size and the strides of its matrix.
#[derive(Clone, Copy)]
pub(super) struct Block<T> {
    pub data: *const T,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<T> Block<T> {
    fn at(&self, row: usize, col: usize) -> *const T {
        self.data
            .wrapping_add(row * self.row_stride + col * self.col_stride)
    }
}

/// A panel's width in vectors, given how many columns are left.
pub(super) fn panel_vectors(columns: usize) -> usize {
    columns.div_ceil(16).min(TILE_VECTORS)
}

/// Prefetches one of `parts` parts of the block's memory.
pub(super) fn prefetch<T>(block: &Block<T>, part: usize, parts: usize) {
    let (lines, len, stride) = if block.col_stride == 1 {
        (block.rows, block.cols, block.row_stride)
    } else {
        (block.cols, block.rows, block.col_stride)
    };
    let per_line = (len * size_of::<T>()).div_ceil(64);
    let (from, to) = (
        part * lines * per_line / parts,
        (part + 1) * lines * per_line / parts,
    );
    let (mut line, mut byte) = (from / per_line * stride, from % per_line * 64);
    for _ in from..to {
        let at = block.data.wrapping_add(line).wrapping_byte_add(byte);
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        byte += 64;
        if byte == per_line * 64 {
            (line, byte) = (line + stride, 0);
        }
    }
}

/// Prefetches `count` words.
pub(super) fn prefetch_words(words: *const u32, count: usize) {
    for word in (0..count).step_by(16) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(words.wrapping_add(word).cast()) }
    }
}

pub(super) fn mask16(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

pub(super) fn mask32(count: usize) -> __mmask32 {
    ((1u64 << count.min(32)) - 1) as __mmask32
}

/// Packs rows of f32 as words.
///
/// # Safety
/// `a` must be valid, at most `TILE_ROWS` by `DEPTH`; `out` must have room for `rows * A_STRIDE`
/// words.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn rows_f32(a: Block<f32>, out: *mut u32) {
    // SAFETY: masks keep the loads inside the block.
    unsafe {
        if a.col_stride == 1 {
            for i in 0..a.rows {
                for p in (0..a.cols).step_by(16) {
                    let words = _mm512_maskz_loadu_epi32(mask16(a.cols - p), a.at(i, p).cast());
                    _mm512_storeu_si512(out.add(i * A_STRIDE + p).cast(), words);
                }
            }
            return;
        }
        for p in (0..a.cols).step_by(16) {
            let words = columns_as_rows(a, p);
            for (i, &word) in words.iter().enumerate().take(a.rows) {
                _mm512_storeu_si512(out.add(i * A_STRIDE + p).cast(), word);
            }
        }
    }
}

/// Packs rows of f32 as pairs of bf16, rounded to nearest even.
///
/// # Safety
/// As for [`rows_f32`], with twice as many columns.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn rows_f32_to_bf16(a: Block<f32>, out: *mut u32) {
    // SAFETY: masks keep the loads inside the block.
    unsafe {
        if a.col_stride == 1 {
            for i in 0..a.rows {
                for p in (0..a.cols).step_by(32) {
                    let rest = a.cols - p;
                    let low = _mm512_maskz_loadu_ps(mask16(rest), a.at(i, p));
                    let high = mask16(rest.saturating_sub(16));
                    let high = _mm512_maskz_loadu_ps(high, a.at(i, p + 16));
                    store_pairs(out.add(i * A_STRIDE + p / 2), low, high);
                }
            }
            return;
        }
        for p in (0..a.cols).step_by(32) {
            let (low, high) = (columns_as_rows(a, p), columns_as_rows(a, p + 16));
            for i in 0..a.rows {
                let (low, high) = (_mm512_castsi512_ps(low[i]), _mm512_castsi512_ps(high[i]));
                store_pairs(out.add(i * A_STRIDE + p / 2), low, high);
            }
        }
    }
}

/// # Safety
/// `out` must have room for 16 words.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn store_pairs(out: *mut u32, low: __m512, high: __m512) {
    let pairs = _mm512_cvtne2ps_pbh(high, low);
    // SAFETY: the caller's promise; both are 64 bytes.
    unsafe { _mm512_storeu_si512(out.cast(), std::mem::transmute::<__m512bh, __m512i>(pairs)) }
}

/// The rows of the 16 columns from `p` on, in a block whose columns are contiguous.
///
/// # Safety
/// The block must be valid and have at most 16 rows.
#[target_feature(enable = "avx512f")]
unsafe fn columns_as_rows(a: Block<f32>, p: usize) -> [__m512i; 16] {
    let rows = mask16(a.rows);
    let mut words = [_mm512_setzero_si512(); 16];
    for (q, word) in words.iter_mut().enumerate().take(a.cols.saturating_sub(p)) {
        // SAFETY: column p + q is in the block, the mask keeps to its rows.
        *word = unsafe { _mm512_maskz_loadu_epi32(rows, a.at(0, p + q).cast()) };
    }
    transpose(words)
}

/// Packs a block `[depth, columns]` of f32 as panels.
///
/// # Safety
/// `b` must be valid; `out` must be aligned to 64 bytes and have room for `depth` times the
/// columns, rounded up to 16, in words.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn panels_f32(b: Block<f32>, out: *mut u32) {
    // SAFETY: masks keep the loads inside the block.
    unsafe {
        if b.col_stride != 1 {
            let words = Block {
                data: b.data.cast::<u32>(),
                rows: b.rows,
                cols: b.cols,
                row_stride: b.row_stride,
                col_stride: b.col_stride,
            };
            return panels_of_columns(words, b.rows, out);
        }
        for p in 0..b.rows {
            let ahead = b.at(p + 4, 0).cast::<i8>();
            let (mut j, mut panel) = (0, out);
            while j < b.cols {
                let width = panel_vectors(b.cols - j);
                for v in 0..width {
                    let mask = mask16(b.cols - j);
                    let words = _mm512_maskz_loadu_epi32(mask, b.at(p, j).cast());
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(4 * j));
                    _mm512_store_si512(panel.add(16 * (p * width + v)).cast(), words);
                    j += 16;
                }
                panel = panel.add(16 * width * b.rows);
            }
        }
    }
}

/// Packs a block `[k, columns]` of bf16 as panels of pairs along k.
///
/// # Safety
/// As for [`panels_f32`], with a depth of `k / 2` rounded up.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn panels_bf16(b: Block<u16>, out: *mut u32) {
    // SAFETY: masks keep the loads inside the block.
    unsafe {
        let depth = b.rows.div_ceil(2);
        if b.col_stride != 1 {
            return panels_of_columns_bf16(b, depth, out);
        }
        let low = interleave(0);
        let high = interleave(16);
        for p in 0..depth {
            let second = if 2 * p + 1 < b.rows { u32::MAX } else { 0 };
            let ahead = [
                b.at(2 * p + 8, 0).cast::<i8>(),
                b.at(2 * p + 9, 0).cast::<i8>(),
            ];
            let (mut j, mut panel) = (0, out);
            while j < b.cols {
                let width = panel_vectors(b.cols - j);
                let mask = mask32(b.cols - j);
                let r0 = _mm512_maskz_loadu_epi16(mask, b.at(2 * p, j).cast());
                let r1 = _mm512_maskz_loadu_epi16(mask & second, b.at(2 * p + 1, j).cast());
                _mm_prefetch::<_MM_HINT_T0>(ahead[0].wrapping_add(2 * j));
                _mm_prefetch::<_MM_HINT_T0>(ahead[1].wrapping_add(2 * j));
                let at = panel.add(16 * p * width);
                _mm512_store_si512(at.cast(), _mm512_permutex2var_epi16(r0, low, r1));
                if width > 1 {
                    _mm512_store_si512(at.add(16).cast(), _mm512_permutex2var_epi16(r0, high, r1));
                }
                j += 32;
                panel = panel.add(16 * width * depth);
            }
        }
    }
}

/// Indices that take elements `from..from + 16` of two vectors in turn.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn interleave(from: i16) -> __m512i {
    let mut index = [0i16; 32];
    for j in 0..16 {
        index[2 * j] = from + j as i16;
        index[2 * j + 1] = from + j as i16 + 32;
    }
    // SAFETY: the array is 64 bytes.
    unsafe { _mm512_loadu_si512(index.as_ptr().cast()) }
}

/// Packs a block of words whose columns are contiguous along k.
///
/// # Safety
/// As for [`panels_f32`].
#[target_feature(enable = "avx512f")]
unsafe fn panels_of_columns(b: Block<u32>, depth: usize, out: *mut u32) {
    // SAFETY: masks keep the loads inside the block.
    unsafe {
        let (mut j, mut panel) = (0, out);
        while j < b.cols {
            let width = panel_vectors(b.cols - j);
            for v in 0..width {
                let columns = (b.cols - j).min(16);
                for p in (0..depth).step_by(16) {
                    let mask = mask16(depth - p);
                    let mut words = [_mm512_setzero_si512(); 16];
                    for (q, word) in words.iter_mut().enumerate().take(columns) {
                        *word = _mm512_maskz_loadu_epi32(mask, b.at(p, j + q).cast());
                        _mm_prefetch::<_MM_HINT_T0>(b.at(p, j + q + 16).cast());
                    }
                    store_depths(
                        transpose(words),
                        depth - p,
                        panel.add(16 * (p * width + v)),
                        width,
                    );
                }
                j += 16;
            }
            panel = panel.add(16 * width * depth);
        }
    }
}

/// [`panels_of_columns`] for bf16, whose number along k may be odd.
///
/// # Safety
/// As for [`panels_bf16`].
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn panels_of_columns_bf16(b: Block<u16>, depth: usize, out: *mut u32) {
    // SAFETY: masks keep the loads inside the block.
    unsafe {
        let (mut j, mut panel) = (0, out);
        while j < b.cols {
            let width = panel_vectors(b.cols - j);
            for v in 0..width {
                let columns = (b.cols - j).min(16);
                for p in (0..depth).step_by(16) {
                    let mask = mask32(b.rows - 2 * p);
                    let mut words = [_mm512_setzero_si512(); 16];
                    for (q, word) in words.iter_mut().enumerate().take(columns) {
                        *word = _mm512_maskz_loadu_epi16(mask, b.at(2 * p, j + q).cast());
                        _mm_prefetch::<_MM_HINT_T0>(b.at(2 * p, j + q + 16).cast());
                    }
                    store_depths(
                        transpose(words),
                        depth - p,
                        panel.add(16 * (p * width + v)),
                        width,
                    );
                }
                j += 16;
            }
            panel = panel.add(16 * width * depth);
        }
    }
}

/// # Safety
/// `out` must have room for `depth` (at most 16) vectors, `width` vectors apart.
#[target_feature(enable = "avx512f")]
unsafe fn store_depths(words: [__m512i; 16], depth: usize, out: *mut u32, width: usize) {
    for (q, word) in words.iter().enumerate().take(depth) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_store_si512(out.add(16 * width * q).cast(), *word) }
    }
}

/// Transposes 16 × 16 words: pairs of rows, then of pairs, then of quarters, then of halves.
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        for h in 0..2 {
            u[4 * i + 2 * h] = _mm512_unpacklo_epi64(t[4 * i + h], t[4 * i + 2 + h]);
            u[4 * i + 2 * h + 1] = _mm512_unpackhi_epi64(t[4 * i + h], t[4 * i + 2 + h]);
        }
    }
    // u[4i + c] holds, in quarter q, column 4q + c of rows 4i..4i + 4.
    let mut out = u;
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(u[c], u[4 + c]);
        let high = _mm512_shuffle_i32x4::<0b10_00_10_00>(u[8 + c], u[12 + c]);
        out[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        out[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
        let low = _mm512_shuffle_i32x4::<0b11_01_11_01>(u[c], u[4 + c]);
        let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(u[8 + c], u[12 + c]);
        out[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        out[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
    }
    out
}
