//! Panels of a weight in blocks: lines are unpacked into memory that stays in the cache, and panels
//! are made from that.

use std::arch::x86_64::*;

use super::pack::{self, Block, interleave, mask16, panel_vectors};
use super::packed::Right;
use crate::cpu::blocks::{BlockMatrix, avx512};

/// Values of a line that are unpacked before those of the next line; those of 32 lines fit the
/// cache.
const AT_ONCE: usize = 256;

/// The distance from one line to the next in that memory; it is not a multiple of 4 KiB.
const STRIDE: usize = AT_ONCE + 16;

/// The most columns of a task; a line along the columns is unpacked for all of them at once.
const COLUMNS: usize = super::packed::COLUMNS;

/// Memory aligned for vectors.
#[repr(align(64))]
struct Room<T, const LENGTH: usize>(std::mem::MaybeUninit<[T; LENGTH]>);

impl<T, const LENGTH: usize> Room<T, LENGTH> {
    fn new() -> Self {
        Self(std::mem::MaybeUninit::uninit())
    }

    fn at(&mut self, place: usize) -> *mut T {
        self.0.as_mut_ptr().cast::<T>().wrapping_add(place)
    }
}

/// Panels in f32.
pub(super) struct Wide<'a>(pub BlockMatrix<'a>);

/// Panels in bf16, rounded to nearest even.
pub(super) struct Narrow<'a>(pub BlockMatrix<'a>);

/// Unpacks a part of a line.
///
/// # Safety
/// The processor must have what [`avx512::is_available`] asks for; `from` must be a multiple of 32,
/// the line must have `to` values, and `out` must have room for them.
unsafe fn unpack(b: &BlockMatrix<'_>, line: usize, from: usize, to: usize, out: *mut f32) {
    let bytes = b.bytes_of(line).as_ptr();
    // SAFETY: the caller's promise.
    unsafe { avx512::unpack(b.block_type(), bytes, from, to, out) }
}

/// Calls `each` with the first column and the number of columns of every panel.
fn panels(cols: usize, mut each: impl FnMut(usize, usize)) {
    for j in (0..cols).step_by(32) {
        each(j, (cols - j).min(32));
    }
}

/// Calls `each` with the parts of a range, which is cut at the multiples of [`AT_ONCE`].
fn parts(from: usize, to: usize, mut each: impl FnMut(usize, usize)) {
    let mut at = from;
    while at < to {
        let end = to.min((at / AT_ONCE + 1) * AT_ONCE);
        each(at, end);
        at = end;
    }
}

impl Right for Wide<'_> {
    unsafe fn pack(&self, row: usize, rows: usize, col: usize, cols: usize, out: *mut u32) {
        // SAFETY: the caller's promise; it is called only if the processor has the features.
        unsafe {
            if self.0.has_contiguous_rows() {
                rows_in_f32(&self.0, [row, rows], [col, cols], out);
            } else {
                columns_in_f32(&self.0, [row, rows], [col, cols], out);
            }
        }
    }
}

impl Right for Narrow<'_> {
    unsafe fn pack(&self, row: usize, rows: usize, col: usize, cols: usize, out: *mut u32) {
        // SAFETY: the caller's promise; it is called only if the processor has the features.
        unsafe {
            if self.0.has_contiguous_rows() {
                rows_in_bf16(&self.0, [row, rows], [col, cols], out);
            } else {
                columns_in_bf16(&self.0, [row, rows], [col, cols], out);
            }
        }
    }
}

/// Packs a matrix whose columns are lines.
///
/// # Safety
/// As for [`Right::pack`].
unsafe fn columns_in_f32(
    b: &BlockMatrix<'_>,
    [row, rows]: [usize; 2],
    [col, cols]: [usize; 2],
    out: *mut u32,
) {
    let mut room = Room::<f32, { 32 * STRIDE }>::new();
    panels(cols, |j, columns| {
        let panel = out.wrapping_add(j * rows);
        parts(row, row + rows, |from, to| {
            let start = from / 32 * 32;
            // SAFETY: the lines exist and are that long; a part fits its line of the room.
            unsafe {
                for q in 0..columns {
                    unpack(b, col + j + q, start, to, room.at(q * STRIDE));
                }
                let block = Block {
                    data: room.at(from - start).cast_const(),
                    rows: to - from,
                    cols: columns,
                    row_stride: 1,
                    col_stride: STRIDE,
                };
                let width = 16 * panel_vectors(columns);
                pack::panels_f32(block, panel.wrapping_add((from - row) * width));
            }
        });
    });
}

/// Packs a matrix whose columns are lines.
///
/// # Safety
/// As for [`Right::pack`], with AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn columns_in_bf16(
    b: &BlockMatrix<'_>,
    [row, rows]: [usize; 2],
    [col, cols]: [usize; 2],
    out: *mut u32,
) {
    let mut line = Room::<f32, STRIDE>::new();
    let mut room = Room::<u16, { 32 * STRIDE }>::new();
    panels(cols, |j, columns| {
        let panel = out.wrapping_add(j * rows.div_ceil(2));
        parts(row, row + rows, |from, to| {
            // SAFETY: as in `columns_in_f32`.
            unsafe {
                let start = from / 32 * 32;
                for q in 0..columns {
                    unpack(b, col + j + q, start, to, line.at(0));
                    for p in (0..to - start).step_by(32) {
                        let [low, high] = [0, 16].map(|half| {
                            let mask = mask16((to - start - p).saturating_sub(half));
                            _mm512_maskz_loadu_ps(mask, line.at(p + half))
                        });
                        let both = _mm512_cvtne2ps_pbh(high, low);
                        let both = std::mem::transmute::<__m512bh, __m512i>(both);
                        _mm512_storeu_si512(room.at(q * STRIDE + p).cast(), both);
                    }
                }
                let block = Block {
                    data: room.at(from - start).cast_const(),
                    rows: to - from,
                    cols: columns,
                    row_stride: 1,
                    col_stride: STRIDE,
                };
                let width = 16 * panel_vectors(columns);
                pack::panels_bf16(block, panel.wrapping_add((from - row) / 2 * width));
            }
        });
    });
}

/// Packs a matrix whose rows are lines.
///
/// # Safety
/// As for [`Right::pack`].
#[target_feature(enable = "avx512f")]
unsafe fn rows_in_f32(
    b: &BlockMatrix<'_>,
    [row, rows]: [usize; 2],
    [col, cols]: [usize; 2],
    out: *mut u32,
) {
    let mut line = Room::<f32, COLUMNS>::new();
    assert!(cols <= COLUMNS);
    for p in 0..rows {
        // SAFETY: the line exists and is that long; its part fits.
        unsafe {
            unpack(b, row + p, col, col + cols, line.at(0));
            panels(cols, |j, columns| {
                let width = panel_vectors(columns);
                let at = out.wrapping_add(j * rows + 16 * p * width);
                for v in 0..width {
                    let mask = mask16(columns - 16 * v);
                    let values = _mm512_maskz_loadu_epi32(mask, line.at(j + 16 * v).cast());
                    _mm512_store_si512(at.wrapping_add(16 * v).cast(), values);
                }
            });
        }
    }
}

/// Packs a matrix whose rows are lines.
///
/// # Safety
/// As for [`Right::pack`], with AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows_in_bf16(
    b: &BlockMatrix<'_>,
    [row, rows]: [usize; 2],
    [col, cols]: [usize; 2],
    out: *mut u32,
) {
    let mut lines = Room::<f32, { 2 * COLUMNS }>::new();
    assert!(cols <= COLUMNS);
    let depth = rows.div_ceil(2);
    let in_turn = interleave_halves();
    for p in 0..depth {
        // SAFETY: the lines exist and are that long; their parts fit.
        unsafe {
            unpack(b, row + 2 * p, col, col + cols, lines.at(0));
            let has_second = 2 * p + 1 < rows;
            if has_second {
                unpack(b, row + 2 * p + 1, col, col + cols, lines.at(COLUMNS));
            }
            panels(cols, |j, columns| {
                let width = panel_vectors(columns);
                let at = out.wrapping_add(j * depth + 16 * p * width);
                for v in 0..width {
                    let mask = mask16(columns - 16 * v);
                    let second = if has_second { mask } else { 0 };
                    let first = _mm512_maskz_loadu_ps(mask, lines.at(j + 16 * v));
                    let second = _mm512_maskz_loadu_ps(second, lines.at(COLUMNS + j + 16 * v));
                    let both = _mm512_cvtne2ps_pbh(second, first);
                    let both = std::mem::transmute::<__m512bh, __m512i>(both);
                    let both = _mm512_permutexvar_epi16(in_turn, both);
                    _mm512_store_si512(at.wrapping_add(16 * v).cast(), both);
                }
            });
        }
    }
}

/// Indices that take elements of the two halves of a vector in turn.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave_halves() -> __m512i {
    // The second of two vectors begins at 32, the second of two halves at 16.
    let both = interleave(0);
    _mm512_sub_epi16(both, _mm512_set1_epi32(16 << 16))
}
