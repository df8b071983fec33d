//! Products of a few rows, more than `gemv` takes: the weight is read in place, since packing it
//! would cost more than the product.
//!
//! The weight is read in tiles of 32 columns and some words along k (an f32, or two bf16
//! neighbours), along its rows as they lie in memory. The sums of all rows of A for a tile stay in
//! registers, and the next tile along k continues them. Each task has its own columns, and sums are
//! cut along k as in the packed product, so neither the number of threads nor that of rows changes
//! a bit. For a weight whose columns are contiguous, a panel is as fast.

use std::arch::x86_64::*;
use std::cell::Cell;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::micro::A_STRIDE;
use super::output::Output;
use super::pack::{interleave, mask16, mask32};
use super::packed::{Operand, bits, depth_step, operand};
use super::{Matrix, MatrixMut, Onto, PackedLeft};

/// The most rows that are computed this way: their sums for 32 columns take half of the registers.
pub(super) const ROWS: usize = 8;

/// The most columns of a task.
const COLUMNS: usize = 768;

/// The same if there are more rows than a tile has: the sums of all wait in the first-level cache.
const COLUMNS_OF_MANY: usize = 256;

/// Words of the weight that are prefetched while as many are read: half of the first-level cache.
const NEXT: usize = 6144;

/// The rows of A in words, blocks of `depth` words along k one after the other.
#[derive(Clone, Copy)]
struct Left {
    data: *const u32,
    row_stride: usize,
    block_stride: usize,
    depth: usize,
    /// Words along k.
    words: usize,
}

// SAFETY: the memory is only read, and outlives the call.
unsafe impl Sync for Left {}

impl Left {
    fn at(&self, word: usize) -> *const u32 {
        let (block, word) = (word / self.depth, word % self.depth);
        self.data.wrapping_add(block * self.block_stride + word)
    }
}

thread_local! {
    /// The memory of a task's sums, kept for the next one.
    static SUMS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// One tile's work: `sums += a · b`, and after the last tile of a block `c = base + sums`.
struct Tile<T> {
    /// The rows of A from the tile on.
    a: *const u32,
    /// The words from one row to the next.
    a_stride: usize,
    b: *const T,
    b_stride: usize,
    /// The rows of B.
    rows: usize,
    /// What the next tile along k reads.
    next: *const T,
    /// At most 32.
    columns: usize,
    /// The sums so far, in rows of whole tiles.
    sums: *mut f32,
    sums_stride: usize,
    /// Whether there are no sums yet.
    is_first: bool,
    /// Whether this is the last tile of a block along k.
    is_last: bool,
    c: *mut f32,
    c_stride: usize,
    /// What the product is added to, or null.
    base: *const f32,
    base_stride: usize,
}

/// How a weight of one type is read.
struct Format<T: 'static> {
    /// Rows of B in a word.
    per_word: usize,
    /// By the number of rows of A, less one.
    tiles: [unsafe fn(&Tile<T>); ROWS],
}

macro_rules! format_of {
    (
        $(#[$doc:meta])* $format:ident, $kernel:ident, $element:ty,
        $features:literal, $per_word:literal,
        |$tile:ident, $p:ident, $masks:ident| $words:expr,
        |$sum:ident, $a:ident, $b:ident| $step:expr
    ) => {
        #[target_feature(enable = $features)]
        unsafe fn $kernel<const ROWS: usize>($tile: &Tile<$element>) {
            let $masks = [mask16($tile.columns), mask16($tile.columns.saturating_sub(16))];
            // Loops over constant ranges leave the sums in registers; iterators do not.
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            // SAFETY: the caller's promise about the tile's pointers; masks keep to its columns.
            unsafe {
                if !$tile.is_first {
                    for i in 0..ROWS {
                        for v in 0..2 {
                            sums[i][v] = _mm512_loadu_ps($tile.sums.add(i * $tile.sums_stride + 16 * v));
                        }
                    }
                }
                for $p in 0..$tile.rows.div_ceil($per_word) {
                    let columns: [__m512i; 2] = $words;
                    for i in 0..ROWS {
                        let $a = _mm512_set1_epi32(*$tile.a.add(i * $tile.a_stride + $p) as i32);
                        for v in 0..2 {
                            let ($sum, $b) = (sums[i][v], columns[v]);
                            sums[i][v] = $step;
                        }
                    }
                }
                for i in 0..ROWS {
                    for v in 0..2 {
                        let mut sum = sums[i][v];
                        if !$tile.is_last {
                            _mm512_storeu_ps($tile.sums.add(i * $tile.sums_stride + 16 * v), sum);
                            continue;
                        }
                        if !$tile.base.is_null() {
                            let base = $tile.base.wrapping_add(i * $tile.base_stride + 16 * v);
                            sum = _mm512_add_ps(_mm512_maskz_loadu_ps($masks[v], base), sum);
                        }
                        let c = $tile.c.wrapping_add(i * $tile.c_stride + 16 * v);
                        _mm512_mask_storeu_ps(c, $masks[v], sum);
                    }
                }
            }
        }

        $(#[$doc])*
        static $format: Format<$element> = Format {
            per_word: $per_word,
            tiles: [
                $kernel::<1>, $kernel::<2>, $kernel::<3>, $kernel::<4>,
                $kernel::<5>, $kernel::<6>, $kernel::<7>, $kernel::<8>,
            ],
        };
    };
}

format_of!(
    /// Needs `avx512f`.
    F32, tile_f32, f32, "avx512f", 1,
    |tile, p, masks| {
        let row = tile.b.wrapping_add(p * tile.b_stride);
        let next = tile.next.wrapping_add(p * tile.b_stride);
        _mm_prefetch::<_MM_HINT_T0>(next.cast());
        _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(16).cast());
        [
            _mm512_maskz_loadu_epi32(masks[0], row.cast()),
            _mm512_maskz_loadu_epi32(masks[1], row.wrapping_add(16).cast()),
        ]
    },
    |sum, a, b| _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
);

format_of!(
    /// Needs `avx512bw` and `avx512bf16`.
    BF16, tile_bf16, u16, "avx512f,avx512bw,avx512bf16", 2,
    |tile, p, masks| {
        let mask = mask32(tile.columns);
        let second = if 2 * p + 1 < tile.rows { mask } else { 0 };
        let row = tile.b.wrapping_add(2 * p * tile.b_stride);
        let next = tile.next.wrapping_add(2 * p * tile.b_stride);
        _mm_prefetch::<_MM_HINT_T0>(next.cast());
        _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(tile.b_stride).cast());
        let first = _mm512_maskz_loadu_epi16(mask, row.cast());
        let second = _mm512_maskz_loadu_epi16(second, row.wrapping_add(tile.b_stride).cast());
        [
            _mm512_permutex2var_epi16(first, interleave(0), second),
            _mm512_permutex2var_epi16(first, interleave(16), second),
        ]
    },
    |sum, a, b| _mm512_dpbf16_ps(
        sum,
        std::mem::transmute::<__m512i, __m512bh>(a),
        std::mem::transmute::<__m512i, __m512bh>(b)
    )
);

/// `c = onto + a · b` for few rows; the rows of both sides are contiguous. If there are more than
/// [`ROWS`], groups of that many read the weight in turn while it is in the cache.
///
/// # Safety
/// The processor must have `avx512f`; the shapes must fit, and no size may be zero.
pub(super) unsafe fn product_f32(
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let depth = depth_step(a.cols());
    let left = Left {
        data: a.data().as_ptr().cast(),
        row_stride: a.row_stride(),
        block_stride: depth,
        depth,
        words: a.cols(),
    };
    // SAFETY: the caller's promise.
    unsafe { product(&F32, left, operand(b), a.cols(), onto, c) };
}

/// `c = onto + a · b` for 1 to [`ROWS`] rows; those of `b` are contiguous.
///
/// # Safety
/// The shapes must fit, and no size may be zero.
pub(super) unsafe fn product_packed(
    a: &PackedLeft,
    b: Matrix<'_, bf16>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let words = a.cols().div_ceil(2);
    let left = Left {
        data: a.at(0, 0),
        row_stride: A_STRIDE,
        block_stride: a.rows() * A_STRIDE,
        depth: depth_step(words),
        words,
    };
    // SAFETY: `a` exists only if the processor has the features; the caller's promise.
    unsafe { product(&BF16, left, bits(b), a.cols(), onto, c) };
}

/// # Safety
/// The processor has what `format` needs; `left` is `[c.rows, k]`, `b` is `[k, c.cols]`.
unsafe fn product<T: Sync>(
    format: &Format<T>,
    left: Left,
    b: Operand<T>,
    k: usize,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let (rows, n) = (c.rows(), c.cols());
    let output = Output::new(onto, c);
    // Long rows are read faster: there are no more tasks than threads unless rows outgrow the
    // cache.
    let most = if rows > ROWS {
        COLUMNS_OF_MANY
    } else {
        COLUMNS
    };
    let width = n.div_ceil(rayon::current_num_threads()).min(most);
    let width = width.next_multiple_of(32);
    (0..n.div_ceil(width))
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let columns = task * width..n.min((task + 1) * width);
            // SAFETY: the caller's promise; no other task has these columns.
            unsafe { by_tiles(format, rows, &left, &b, k, &output, columns) };
        });
}

/// Computes the columns `columns` of C, which has `rows` rows.
///
/// # Safety
/// As for [`product`].
unsafe fn by_tiles<T>(
    format: &Format<T>,
    rows: usize,
    left: &Left,
    b: &Operand<T>,
    k: usize,
    output: &Output,
    columns: Range<usize>,
) {
    let depth = (NEXT / columns.len()).clamp(8, 32);
    let sums_stride = columns.len().next_multiple_of(32);
    let mut room = SUMS.take();
    if room.len() < rows * sums_stride {
        room.resize(rows * sums_stride, 0.0);
    }
    let mut word = 0;
    while word < left.words {
        let in_block = word % left.depth;
        let block_ends = (word - in_block + left.depth).min(left.words);
        let words = depth.min(block_ends - word);
        let p = word * format.per_word;
        let parts = columns.clone().step_by(32);
        let parts = parts.flat_map(|j| (0..rows).step_by(ROWS).map(move |first| (j, first)));
        for (j, first) in parts {
            let rows = (rows - first).min(ROWS);
            let (c, base, base_stride) = output.at(first, j, word >= left.depth);
            let sums = first * sums_stride + j - columns.start;
            let tile = Tile {
                a: left.at(word).wrapping_add(first * left.row_stride),
                a_stride: left.row_stride,
                b: b.block(p, 1, j, 1).data,
                b_stride: b.row_stride(),
                rows: (words * format.per_word).min(k - p),
                next: b.block(p + words * format.per_word, 1, j, 1).data,
                columns: (columns.end - j).min(32),
                sums: room.as_mut_ptr().wrapping_add(sums),
                sums_stride,
                is_first: in_block == 0,
                is_last: word + words == block_ends,
                c,
                c_stride: output.stride(),
                base,
                base_stride,
            };
            // SAFETY: the tile is inside C, A, B and the sums.
            unsafe { (format.tiles[rows - 1])(&tile) };
        }
        word += words;
    }
    SUMS.set(room);
}
