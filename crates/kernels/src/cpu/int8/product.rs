//! The product: C is cut into tasks that share nothing they write.
//!
//! The bytes of a weight lie as the tiles read them; of a transposed one a task first rounds the squares
//! it comes to once more and transposes them. A row's sum goes along k, block after block, and every so
//! many of them are added to what C holds, so that neither the tasks nor the rows beside it change a bit.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::body::{Body, MOST_ROWS, Panel, Part, Tile};
use super::left::{Left, Memory, Note, Rest};
use super::matrix::{HALVES, PANEL, Square, WideScales};
use super::{BLOCK, Int8View, SQUARE};
use crate::cpu::low_rank::Beside;
use crate::cpu::product::{Output, start};
use crate::cpu::{Matrix, MatrixMut, Onto};

/// Most rows of a task, whose whole numbers stay near; and of one that makes panels for them.
const ROWS: [usize; 2] = [512, 1024];

/// Squares along k for which a panel stays near while the rows go by.
const DEPTH: usize = 12;

/// Squares that one thread reads sooner than another begins.
const ALONE: usize = 32;

/// Fewest squares of a task of few rows.
const TASK: usize = 8;

/// How many blocks of 32 activations products in eight bits have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// All of them.
    pub all: u64,
    /// Those that stand far above the others of their row, and were rounded to 16 bits.
    pub outliers: u64,
}

static ALL: AtomicU64 = AtomicU64::new(0);
static OUTLIERS: AtomicU64 = AtomicU64::new(0);

/// The blocks of all products of this process since this was last asked.
pub fn take_block_counts() -> BlockCounts {
    BlockCounts {
        all: ALL.swap(0, Ordering::Relaxed),
        outliers: OUTLIERS.swap(0, Ordering::Relaxed),
    }
}

/// The name of the loops that this processor runs products in eight bits with.
pub fn body_name() -> &'static str {
    Body::chosen().name
}

thread_local! {
    /// The memory of the left side, kept for the next call.
    static MEMORY: Cell<Memory> = Cell::default();
    /// What a task makes of a weight's squares, kept for the next one.
    static PANELS: RefCell<Panels> = const { RefCell::new(Panels { squares: Vec::new(), scales: Vec::new() }) };
}

struct Panels {
    squares: Vec<Square>,
    scales: Vec<WideScales>,
}

/// `c = onto + a · b`, `[m, k] · [k, n]`, and what is made beside it; the shapes fit.
pub(in crate::cpu) fn product(
    a: Matrix<'_, f32>,
    b: Int8View<'_>,
    beside: Option<&Beside<'_>>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    product_by(Body::chosen(), a, b, beside, onto, c);
}

/// [`product`] by one of the bodies.
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
    let left = Left::new(a, b.keeps_outliers(), beside, &mut memory);
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
                // SAFETY: the rows were made with the left side; this part of C is the task's.
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

struct Product<'a> {
    body: &'a Body,
    left: &'a Left<'a>,
    right: Int8View<'a>,
    output: Output,
    columns: usize,
}

impl Product<'_> {
    /// Some rows of the columns that a square has.
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
                        // SAFETY: the processor has what the body needs; the rows, the panel and the
                        // part of C are there, and no other task has that part.
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

    /// The panels of a square's columns for so many rows, and what runs their tiles.
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

    /// What rounding took from a block of some rows, added to what the tiles left.
    fn run_rests(
        &self,
        rows: &Range<usize>,
        block: usize,
        panel: Panel,
        across: usize,
        all_columns: usize,
    ) {
        for rests in self.left.rests(block, rows).chunks(self.body.rows) {
            for (right, columns, run) in self.panels(panel, rests.len(), all_columns) {
                let mut sums = [[0.0; SQUARE]; MOST_ROWS];
                let tile = Tile {
                    codes: rests[0].codes.as_ptr(),
                    code_stride: size_of::<Rest>(),
                    notes: &rests[0].note,
                    note_stride: size_of::<Rest>() / size_of::<Note>(),
                    rows: rests.len(),
                    right,
                    is_first: false,
                    output: Part {
                        c: sums.as_mut_ptr().cast(),
                        c_stride: SQUARE,
                        base: ptr::null(),
                        base_stride: 0,
                        columns: columns.len(),
                    },
                };
                // SAFETY: as for the other tiles.
                unsafe { run(&tile) };
                for (rest, sums) in rests.iter().zip(&sums) {
                    let part = self.part(rest.row, across, &columns, true);
                    for (column, sum) in sums.iter().enumerate().take(columns.len()) {
                        // SAFETY: the part of C is there, and this task's.
                        unsafe { *part.c.wrapping_add(column) += sum };
                    }
                }
            }
        }
    }

    fn part(&self, row: usize, across: usize, columns: &Range<usize>, goes_on: bool) -> Part {
        let column = across * SQUARE + columns.start;
        let (c, base, base_stride) = self.output.at(row, column, goes_on);
        Part {
            c,
            c_stride: self.output.stride(),
            base,
            base_stride,
            columns: columns.len(),
        }
    }

    /// Calls `each` with some blocks along k, from the first of a square to the last of one.
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

/// Rows in even strips of at most `most`.
fn strips(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (first, rows) = (rows.start, rows.len());
    let count = rows.div_ceil(most);
    (0..count).map(move |i| first + i * rows / count..first + (i + 1) * rows / count)
}
