//! The blocked product: B is copied into panels a block at a time, and tiles of C are made from
//! them.
//!
//! C is cut into tasks, each a range of rows and columns, which write nothing in common. A task
//! copies its block of B (`DEPTH` words deep) into its own core's second-level cache, then runs
//! over its rows, 14 at a time. Each task copies rows of A as it comes to them; if A has to be
//! rounded to bf16, it is copied once for all tasks ([`PackedLeft`]). The sum along k is cut at
//! depths that depend on k alone, and is never shared between tasks, so neither the number of
//! threads nor the number of rows changes a result.

use std::cell::RefCell;

use half::bf16;
use rayon::prelude::*;

use super::micro::{self, A_STRIDE, DEPTH, TILE_ROWS, Table, Tile};
use super::output::Output;
use super::pack::{self, Block};
use super::{Matrix, MatrixMut, Onto, PackedLeft};

/// The most columns of a task: a block of B then takes half a megabyte.
pub(super) const COLUMNS: usize = 384;

/// The number of rows below which copying B for them costs more than an idle core.
const FEW_ROWS: usize = 128;

/// The number of columns below which reading all of A for them costs more than packing B again.
const FEW_COLUMNS: usize = 192;

/// How the left side of one kind of product is packed, and how both are multiplied.
pub(super) struct Format<A> {
    /// Elements along k in a word.
    per_word: usize,
    pack_a: unsafe fn(Block<A>, *mut u32),
    kernels: &'static Table,
}

/// f32 by f32; needs `avx512f`.
pub(super) static F32: Format<f32> = Format {
    per_word: 1,
    pack_a: pack::rows_f32,
    kernels: &micro::F32,
};

/// f32, rounded to bf16, by bf16; needs `avx512bw` and `avx512bf16`.
pub(super) static BF16: Format<f32> = Format {
    per_word: 2,
    pack_a: pack::rows_f32_to_bf16,
    kernels: &micro::BF16,
};

/// The right side of a product, in any form that panels can be made from.
pub(super) trait Right: Sync {
    /// Makes panels of some of its rows and columns; `row` is a multiple of a word's elements and
    /// of 16, `col` of 32.
    ///
    /// # Safety
    /// The block must be inside the matrix, and `out` must have room for its panels.
    unsafe fn pack(&self, row: usize, rows: usize, col: usize, cols: usize, out: *mut u32);
}

impl Right for Operand<f32> {
    unsafe fn pack(&self, row: usize, rows: usize, col: usize, cols: usize, out: *mut u32) {
        // SAFETY: the caller's promise; it is called only if the processor has the features.
        unsafe { pack::panels_f32(self.block(row, rows, col, cols), out) }
    }
}

impl Right for Operand<u16> {
    unsafe fn pack(&self, row: usize, rows: usize, col: usize, cols: usize, out: *mut u32) {
        // SAFETY: the caller's promise; it is called only if the processor has the features.
        unsafe { pack::panels_bf16(self.block(row, rows, col, cols), out) }
    }
}

/// The bits of a matrix of bf16.
pub(super) fn bits(b: Matrix<'_, bf16>) -> Operand<u16> {
    let b = operand(b);
    Operand {
        data: b.data.cast(),
        row_stride: b.row_stride,
        col_stride: b.col_stride,
    }
}

/// A matrix without its lifetime and size, for the threads of one call.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Operand<T> {
    data: *const T,
    row_stride: usize,
    col_stride: usize,
}

// SAFETY: the slice that it points to is only read, and outlives the call.
unsafe impl<T: Sync> Sync for Operand<T> {}

pub(in crate::cpu) fn operand<T>(matrix: Matrix<'_, T>) -> Operand<T> {
    Operand {
        data: matrix.data().as_ptr(),
        row_stride: matrix.row_stride(),
        col_stride: matrix.col_stride(),
    }
}

impl<T> Operand<T> {
    /// Rows of `row_stride` values without gaps.
    pub(in crate::cpu) fn of_rows(data: *const T, row_stride: usize) -> Self {
        Self {
            data,
            row_stride,
            col_stride: 1,
        }
    }

    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(super) fn block(&self, row: usize, rows: usize, col: usize, cols: usize) -> Block<T> {
        Block {
            data: self
                .data
                .wrapping_add(row * self.row_stride + col * self.col_stride),
            rows,
            cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        }
    }
}

/// The left side of a product.
pub(super) enum Rows<'a, A> {
    /// As it lies in memory: each task packs the rows it comes to.
    Loose(Operand<A>),
    /// Packed before.
    Packed(&'a PackedLeft),
}

/// `c = onto + a · b` with `a` of `k` columns.
///
/// # Safety
/// The processor must have what `format` needs; `a` must be `[c.rows, k]`, and `b` `[k, c.cols]`.
pub(super) unsafe fn product<A: Sync>(
    format: &Format<A>,
    a: Rows<'_, A>,
    b: &impl Right,
    k: usize,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let (m, n) = (c.rows(), c.cols());
    let output = Output::new(onto, c);
    let shares_a = matches!(a, Rows::Packed(_));
    let (rows, columns) = task_size(m, n, rayon::current_num_threads(), shares_a);
    let (down, across) = (m.div_ceil(rows), n.div_ceil(columns));
    (0..down * across)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let (i, j) = (task % down * rows, task / down * columns);
            let area = Area {
                row: i,
                rows: rows.min(m - i),
                col: j,
                cols: columns.min(n - j),
            };
            SCRATCH.with_borrow_mut(|scratch| {
                // SAFETY: the area is inside C.
                unsafe { run(format, &a, b, k, &output, area, scratch) }
            });
        });
}

/// Rows and columns of a task: two tasks for each thread if there are enough rows. A few rows are
/// cut into as many ranges of columns as there are threads and no more, since long rows of B are
/// read faster. If A is packed already, columns are cut first: cutting rows would pack B twice.
fn task_size(m: usize, n: usize, threads: usize, shares_a: bool) -> (usize, usize) {
    let mut across = n.div_ceil(COLUMNS);
    let mut down = 1;
    if threads > 1 {
        if shares_a && m > FEW_ROWS {
            across = across.max((2 * threads).min(n / FEW_COLUMNS));
        }
        down = (2 * threads).div_ceil(across).min(m.div_ceil(FEW_ROWS));
        across = across.max(threads.div_ceil(down).min(n.div_ceil(64)));
    }
    let rows = m.div_ceil(down).next_multiple_of(TILE_ROWS);
    (rows, n.div_ceil(across).next_multiple_of(32))
}

struct Area {
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

/// A vector of words, aligned as the tiles read them.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Line(#[expect(dead_code)] [u32; 16]);

/// A thread's packed blocks, kept for its next task.
#[derive(Default)]
struct Scratch {
    a: Vec<Line>,
    b: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A pointer to at least `words` words.
pub(super) fn room(lines: &mut Vec<Line>, words: usize) -> *mut u32 {
    let count = words.div_ceil(16);
    if lines.len() < count {
        *lines = Vec::with_capacity(count);
        // SAFETY: any bits are words, and nothing is read before it is written. Clearing the memory
        // first would cost another pass.
        #[allow(clippy::uninit_vec)]
        unsafe {
            lines.set_len(count)
        };
    }
    lines.as_mut_ptr().cast()
}

/// # Safety
/// As for [`product`]; the area must be inside C.
unsafe fn run<A>(
    format: &Format<A>,
    a: &Rows<'_, A>,
    b: &impl Right,
    k: usize,
    output: &Output,
    area: Area,
    scratch: &mut Scratch,
) {
    let words = k.div_ceil(format.per_word);
    let step = depth_step(words);
    let packed_b = room(&mut scratch.b, step * area.cols.next_multiple_of(16));
    let packed_a = room(&mut scratch.a, TILE_ROWS * A_STRIDE);
    for start in (0..words).step_by(step) {
        let depth = step.min(words - start);
        let (p, len) = (start * format.per_word, depth * format.per_word);
        let len = len.min(k - p);
        // SAFETY: the block is inside B, and the room is made for it.
        unsafe { b.pack(p, len, area.col, area.cols, packed_b) };
        for strip in strips(area.rows) {
            let row = area.row + strip.start;
            let rows = match a {
                Rows::Loose(a) => {
                    // SAFETY: the block is inside A, and the room is made for it.
                    unsafe { (format.pack_a)(a.block(row, strip.len(), p, len), packed_a) };
                    packed_a.cast_const()
                }
                Rows::Packed(a) => a.at(start / step, row),
            };
            let tiles = area.cols.div_ceil(32);
            for j in (0..area.cols).step_by(32) {
                // The next strip is prefetched while this one is multiplied; few rows are cached
                // anyway.
                match a {
                    _ if area.rows <= FEW_ROWS => {}
                    Rows::Loose(a) => {
                        let next = a.block(row + strip.len(), strip.len(), p, len);
                        pack::prefetch(&next, j / 32, tiles);
                    }
                    Rows::Packed(_) => {
                        let share = (strip.len() * A_STRIDE).div_ceil(tiles);
                        let next = rows.wrapping_add(strip.len() * A_STRIDE + j / 32 * share);
                        pack::prefetch_words(next, share);
                    }
                }
                let columns = (area.cols - j).min(32);
                let (c, base, base_stride) = output.at(row, area.col + j, start > 0);
                let tile = Tile {
                    a: rows,
                    b: packed_b.wrapping_add(j * depth),
                    depth,
                    c,
                    c_stride: output.stride(),
                    base,
                    base_stride,
                    columns,
                };
                // SAFETY: the tile is inside C, and the panels were packed above.
                unsafe { format.kernels[strip.len() - 1][pack::panel_vectors(columns) - 1](&tile) };
            }
        }
    }
}

/// The depth of all blocks but the last: even parts of at most `DEPTH`, in whole vectors.
pub(super) fn depth_step(words: usize) -> usize {
    words.div_ceil(words.div_ceil(DEPTH)).next_multiple_of(16)
}

/// `rows` in even strips of at most `TILE_ROWS`.
fn strips(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = rows.div_ceil(TILE_ROWS);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}
