//! The product: C is cut into tasks, no two of which write to the same part of it.
//!
//! The tiles read the bytes of a weight in the order in which they are stored. For a transposed
//! weight, a task first rounds the squares it needs once more and transposes them. The sum of a row
//! runs along k, block by block, and is added to C after a fixed number of blocks. So a result has
//! the same bits for any number of tasks and whatever the other rows are.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::ptr::{self, addr_of};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::body::{Body, Panel, Part, Tile};
use super::left::{Left, Memory, Note, Rest};
use super::matrix::{HALVES, PANEL, Square, WideScales};
use super::{BLOCK, Int8View, SQUARE};
use crate::cpu::low_rank::Beside;
use crate::cpu::product::{Output, start};
use crate::cpu::{Matrix, MatrixMut, Onto};

/// The most rows of a task, so that their codes stay in the cache; and the most for a transposed
/// weight, whose panels each task makes again.
const ROWS: [usize; 2] = [512, 1024];

/// How many squares along k a panel has, so that it stays in the cache for all rows of a task.
const DEPTH: usize = 12;

/// A product of at most this many squares is one task: starting a second thread would take longer.
const ALONE: usize = 32;

/// The fewest squares of a task, if there are few rows.
const TASK: usize = 8;

/// How many blocks of 32 activations the products in eight bits have rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// All blocks.
    pub all: u64,
    /// The blocks far larger than the typical one of their row, which were rounded to 16 bits.
    pub outliers: u64,
}

static ALL: AtomicU64 = AtomicU64::new(0);
static OUTLIERS: AtomicU64 = AtomicU64::new(0);

/// Returns the counts of all products of this process since the last call of this function.
pub fn take_block_counts() -> BlockCounts {
    BlockCounts {
        all: ALL.swap(0, Ordering::Relaxed),
        outliers: OUTLIERS.swap(0, Ordering::Relaxed),
    }
}

/// The name of the loops that run products in eight bits on this processor.
pub fn body_name() -> &'static str {
    Body::chosen().name
}

thread_local! {
    /// The memory of the left side, kept for the next call.
    static MEMORY: Cell<Memory> = Cell::default();
    /// The panels that a task made, kept for the next task.
    static PANELS: RefCell<Panels> = const { RefCell::new(Panels { squares: Vec::new(), scales: Vec::new() }) };
}

/// A weight's squares as the tiles of one task read them.
struct Panels {
    /// The transposed squares of a transposed weight; not used for any other.
    squares: Vec<Square>,
    /// The scales of all of them in 32 bits.
    scales: Vec<WideScales>,
}

/// `c = onto + a · b`, `[m, k] · [k, n]`, plus the low-rank product `beside`, if there is one. The
/// shapes must fit.
pub(in crate::cpu) fn product(
    a: Matrix<'_, f32>,
    b: Int8View<'_>,
    beside: Option<&Beside<'_>>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    product_by(Body::chosen(), a, b, beside, onto, c);
}

/// [`product`] with the loops of `body`.
pub(super) fn product_by(
    body: &Body,
    a: Matrix<'_, f32>,
    b: Int8View<'_>,
    beside: Option<&Beside<'_>>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let (m, n) = (c.rows(), c.cols());
    if [m, n, a.cols()].contains(&0) {
        return start(onto, c);
    }
    // Taken, not borrowed: this thread may steal a task that comes here too.
    let mut memory = MEMORY.take();
    let left = Left::new(body, a, b.limit(), beside, &mut memory);
    ALL.fetch_add(left.notes.len() as u64, Ordering::Relaxed);
    OUTLIERS.fetch_add(left.rests.len() as u64, Ordering::Relaxed);
    let product = Product {
        body,
        left: &left,
        right: b,
        output: Output::new(onto, c),
        columns: n,
    };
    let across = n.div_ceil(SQUARE);
    let down = m.div_ceil(ROWS[usize::from(b.is_transposed())]);
    let at_once = if m > body.rows {
        1
    } else if across * left.blocks <= ALONE * HALVES {
        across
    } else {
        (TASK * HALVES).div_ceil(left.blocks)
    };
    let tasks = across.div_ceil(at_once);
    let run = |task: usize| {
        let (i, j) = (task / tasks, task % tasks * at_once);
        let rows = i * m / down..(i + 1) * m / down;
        for square in j..across.min(j + at_once) {
            product.run(rows.clone(), square);
            if let Some(beside) = beside {
                let columns = square * SQUARE..n.min((square + 1) * SQUARE);
                // SAFETY: the rows were made with the left side; no other task has this part of C.
                unsafe { beside.part(rows.clone(), columns, &product.output) };
            }
        }
    };
    if down * tasks == 1 {
        run(0);
    } else {
        (0..down * tasks)
            .into_par_iter()
            .with_max_len(1)
            .for_each(run);
    }
    MEMORY.set(memory);
}

/// One call of [`product`], as its tasks share it.
struct Product<'a> {
    body: &'a Body,
    left: &'a Left<'a>,
    right: Int8View<'a>,
    output: Output,
    columns: usize,
}

impl Product<'_> {
    /// Computes some rows of C, for the columns of one square.
    fn run(&self, rows: Range<usize>, across: usize) {
        let (body, left) = (self.body, self.left);
        let all_columns = (self.columns - across * SQUARE).min(SQUARE);
        for from in (0..left.blocks).step_by(DEPTH * HALVES) {
            let to = left.blocks.min(from + DEPTH * HALVES);
            self.with_panel(from..to, across, |panel| {
                for (right, columns, run) in self.panels(panel, rows.len(), all_columns) {
                    for strip in strips(rows.clone(), body.rows) {
                        let tile = Tile {
                            codes: (left.codes.as_ptr())
                                .wrapping_add(strip.start * left.width() + from * BLOCK),
                            code_stride: left.width(),
                            notes: (left.notes.as_ptr())
                                .wrapping_add(strip.start * left.blocks + from),
                            note_stride: left.blocks,
                            rows: strip.len(),
                            right,
                            is_first: strip.start == rows.start,
                            output: self.part(strip.start, across, &columns, from > 0),
                        };
                        // SAFETY: the processor has what the body needs; the rows, the panel and
                        // the part of C are valid, and no other task has that part.
                        unsafe { run(&tile) };
                    }
                }
                let with_rests = if left.rests.is_empty() {
                    0..0
                } else {
                    from..to
                };
                for block in with_rests {
                    self.run_rests(&rows, block, panel.only(block - from), across, all_columns);
                }
            });
        }
    }

    /// Cuts a square's columns into the panels that tiles read where a task has `rows` rows, each
    /// with the function for its tiles.
    fn panels(
        &self,
        panel: Panel,
        rows: usize,
        columns: usize,
    ) -> impl Iterator<Item = (Panel, Range<usize>, unsafe fn(&Tile))> + use<> {
        let is_wide = rows <= self.body.wide_rows && columns > PANEL;
        let (width, run) = if is_wide {
            (SQUARE, self.body.wide_tile)
        } else {
            (PANEL, self.body.tile)
        };
        let firsts = (0..columns).step_by(width);
        firsts.map(move |first| {
            let columns = first..columns.min(first + width);
            (panel.at_column(first), columns, run)
        })
    }

    /// Multiplies the [`Rest`]s of one block too, and adds the products to C.
    fn run_rests(
        &self,
        rows: &Range<usize>,
        block: usize,
        panel: Panel,
        across: usize,
        all_columns: usize,
    ) {
        for rests in self.left.rests(block, rows).chunks(self.body.rows) {
            // A tile steps from the first rest to the others: its pointers may read the whole
            // slice.
            let first = rests.as_ptr();
            // SAFETY: chunks are not empty, so there is a first one.
            let (codes, notes) = unsafe { (addr_of!((*first).codes), addr_of!((*first).note)) };
            for (right, columns, run) in self.panels(panel, rests.len(), all_columns) {
                let tile = Tile {
                    codes: codes.cast(),
                    code_stride: size_of::<Rest>(),
                    notes,
                    note_stride: size_of::<Rest>() / size_of::<Note>(),
                    rows: rests.len(),
                    right,
                    is_first: false,
                    output: Part {
                        rests: first,
                        ..self.part(0, across, &columns, true)
                    },
                };
                // SAFETY: as for the other tiles; no two rests of a block are of one row.
                unsafe { run(&tile) };
            }
        }
    }

    /// The part of C from a row on, in some columns of a square. If `goes_on`, sums are added to
    /// what C holds.
    fn part(&self, row: usize, across: usize, columns: &Range<usize>, goes_on: bool) -> Part {
        let column = across * SQUARE + columns.start;
        let (c, base, base_stride) = self.output.at(row, column, goes_on);
        Part {
            c,
            c_stride: self.output.stride(),
            base,
            base_stride,
            columns: columns.len(),
            rests: ptr::null(),
        }
    }

    /// Calls `each` with the panel of some blocks along k, which must be those of whole squares.
    fn with_panel(&self, blocks: Range<usize>, across: usize, each: impl FnOnce(Panel)) {
        let first = blocks.start / HALVES;
        let squares = (first..blocks.end / HALVES).map(|down| self.right.square(down, across));
        PANELS.with_borrow_mut(|panels| {
            panels.scales.resize(DEPTH, [0.0; HALVES * SQUARE]);
            let bytes = if self.right.is_transposed() {
                panels.squares.resize(DEPTH, Square::ZERO);
                let (mut from, mut again) = ([0.0; HALVES * SQUARE], Square::ZERO);
                let to = panels.squares.iter_mut().zip(&mut panels.scales);
                for ((square, scales, factors), (to, to_scales)) in squares.zip(to) {
                    (self.body.widen)(scales, factors, &mut from);
                    (self.body.round_again)(square, &from, &mut again, to_scales);
                    // SAFETY: the processor has what the body needs; both are squares.
                    unsafe { (self.body.transpose)(again.0.as_ptr(), to.0.as_mut_ptr()) };
                }
                panels.squares.as_ptr().cast()
            } else {
                for ((_, scales, factors), to) in squares.zip(&mut panels.scales) {
                    (self.body.widen)(scales, factors, to);
                }
                self.right.square(first, across).0.0.as_ptr()
            };
            each(Panel {
                bytes,
                scales: panels.scales.as_ptr().cast(),
                blocks: blocks.len(),
            });
        });
    }
}

/// Cuts rows into strips of about the same size, each of at most `most`.
fn strips(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (first, rows) = (rows.start, rows.len());
    let count = rows.div_ceil(most);
    (0..count).map(move |i| first + i * rows / count..first + (i + 1) * rows / count)
}
