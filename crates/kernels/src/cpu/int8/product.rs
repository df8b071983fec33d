//! The product: C is cut into tasks that share nothing they write.
//!
//! The bytes of a weight lie as the tiles read them; of a transposed one a task first transposes the
//! squares it comes to. A row's sum goes along k, block after block, and every so many of them, times
//! the columns' factors, are added to what C holds, so that neither the tasks nor the rows beside it change
//! a bit.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::body::{Body, ExactTile, Panel, Part, Tile};
use super::left::{Left, Memory};
use super::matrix::{PANEL, PANEL_BYTES, Square};
use super::{Int8View, SQUARE};
use crate::cpu::product::{Output, start};
use crate::cpu::{Matrix, MatrixMut, Onto};

/// Most rows of a task, whose whole numbers stay near.
const ROWS: usize = 512;

/// Squares along k for which a panel stays near while the rows go by.
const DEPTH: usize = 12;

/// Squares that one thread reads sooner than another begins.
const ALONE: usize = 32;

/// Fewest squares of a task of few rows.
const TASK: usize = 8;

/// How many rows products in eight bits have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// All of them.
    pub all: u64,
    /// Those of which a block of 64 was not rounded, since it stood far above the others or had values
    /// that are not finite.
    pub in_f32: u64,
}

static ALL: AtomicU64 = AtomicU64::new(0);
static IN_F32: AtomicU64 = AtomicU64::new(0);

/// The rows of all products of this process since this was last asked.
pub fn take_row_counts() -> RowCounts {
    RowCounts {
        all: ALL.swap(0, Ordering::Relaxed),
        in_f32: IN_F32.swap(0, Ordering::Relaxed),
    }
}

/// The name of the loops that this processor runs products in eight bits with.
pub fn body_name() -> &'static str {
    Body::chosen().name
}

thread_local! {
    /// The memory of the left side, kept for the next call.
    static MEMORY: Cell<Memory> = Cell::default();
    /// The memory of a task's transposed squares, kept for the next one.
    static SQUARES: RefCell<Vec<Square>> = const { RefCell::new(Vec::new()) };
}

/// `c = onto + a · b`, `[m, k] · [k, n]`; the shapes fit.
pub(in crate::cpu) fn product(
    a: Matrix<'_, f32>,
    b: Int8View<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    product_by(Body::chosen(), a, b, onto, c);
}

/// [`product`] by one of the bodies.
pub(super) fn product_by(
    body: &Body,
    a: Matrix<'_, f32>,
    b: Int8View<'_>,
    onto: Onto<'_>,
    c: &mut MatrixMut<'_>,
) {
    let (m, n) = (c.rows(), c.cols());
    if [m, n, a.cols()].contains(&0) {
        return start(onto, c);
    }
    // Taken, not borrowed: this thread may steal a task that comes here too.
    let mut memory = MEMORY.take();
    let left = Left::new(a, b.row_factors(), b.keeps_outliers(), &mut memory);
    ALL.fetch_add(m as u64, Ordering::Relaxed);
    IN_F32.fetch_add(left.exact_rows() as u64, Ordering::Relaxed);
    let product = Product {
        body,
        left: &left,
        right: b,
        output: Output::new(onto, c),
        columns: n,
    };
    let across = n.div_ceil(SQUARE);
    let down = m.div_ceil(ROWS);
    let at_once = if m > body.rows {
        1
    } else if across * left.blocks <= ALONE {
        across
    } else {
        TASK.div_ceil(left.blocks)
    };
    let tasks = across.div_ceil(at_once);
    let run = |task: usize| {
        let (i, j) = (task / tasks, task % tasks * at_once);
        let rows = i * m / down..(i + 1) * m / down;
        for square in j..across.min(j + at_once) {
            product.run(rows.clone(), square);
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
        for from in (0..left.blocks).step_by(DEPTH) {
            let to = left.blocks.min(from + DEPTH);
            self.with_panel(from..to, across, |panel| {
                let is_wide = rows.len() <= body.wide_rows && all_columns > PANEL;
                let width = if is_wide { SQUARE } else { PANEL };
                for first in (0..all_columns).step_by(width) {
                    let right = Panel {
                        bytes: panel.bytes.wrapping_add(first / PANEL * PANEL_BYTES),
                        ..panel
                    };
                    let column = across * SQUARE + first;
                    let columns = (all_columns - first).min(width);
                    for strip in strips(rows.clone(), body.rows) {
                        let tile = Tile {
                            codes: (left.codes.as_ptr())
                                .wrapping_add(strip.start * left.width() + from * SQUARE),
                            code_stride: left.width(),
                            notes: (left.notes.as_ptr())
                                .wrapping_add(strip.start * left.blocks + from),
                            note_stride: left.blocks,
                            rows: strip.len(),
                            right,
                            is_first: strip.start == rows.start,
                            output: self.part(strip.start, column, columns, from > 0),
                        };
                        let run = if is_wide { body.wide_tile } else { body.tile };
                        // SAFETY: the processor has what the body needs; the rows, the panel and the
                        // part of C are there, and no other task has that part.
                        unsafe { run(&tile) };
                    }
                }
                self.run_exact(&rows, from..to, panel, across, all_columns);
            });
        }
    }

    /// The blocks that were not rounded, added to what their rows' tiles left.
    fn run_exact(
        &self,
        rows: &Range<usize>,
        blocks: Range<usize>,
        panel: Panel,
        across: usize,
        all_columns: usize,
    ) {
        let left = self.left;
        let first = left.exact.partition_point(|(row, _)| *row < rows.start);
        let some = left.exact[first..].iter().zip(&left.exact_values[first..]);
        for (&(row, block), values) in some.take_while(|((row, _), _)| *row < rows.end) {
            if !blocks.contains(&block) {
                continue;
            }
            let right = panel.from(block - blocks.start);
            for first in (0..all_columns).step_by(PANEL) {
                let column = across * SQUARE + first;
                let columns = (all_columns - first).min(PANEL);
                let tile = ExactTile {
                    values: values.as_ptr(),
                    bytes: right.bytes.wrapping_add(first / PANEL * PANEL_BYTES),
                    scale: right.scales,
                    output: self.part(row, column, columns, true),
                };
                // SAFETY: as for the other tiles.
                unsafe { (self.body.exact)(&tile) };
            }
        }
    }

    fn part(&self, row: usize, column: usize, columns: usize, goes_on: bool) -> Part {
        let (c, base, base_stride) = self.output.at(row, column, goes_on);
        Part {
            c,
            c_stride: self.output.stride(),
            base,
            base_stride,
            columns,
            factors: self.right.column_factors().as_ptr().wrapping_add(column),
        }
    }

    /// Calls `each` with the squares of some blocks along k.
    fn with_panel(&self, blocks: Range<usize>, across: usize, each: impl FnOnce(Panel)) {
        let stride = self.right.block_stride();
        let (first, scales) = self.right.square(blocks.start, across);
        let panel = Panel {
            bytes: first.0.as_ptr(),
            stride: size_of::<Square>(),
            scales: scales.as_ptr(),
            scale_stride: stride,
            blocks: blocks.len(),
        };
        if !self.right.is_transposed() {
            return each(panel);
        }
        SQUARES.with_borrow_mut(|squares| {
            if squares.len() < DEPTH {
                squares.resize(DEPTH, Square([0; SQUARE * SQUARE]));
            }
            for (square, block) in squares.iter_mut().zip(blocks) {
                let (from, _) = self.right.square(block, across);
                // SAFETY: the processor has what the body needs; both are squares.
                unsafe { (self.body.transpose)(from.0.as_ptr(), square.0.as_mut_ptr()) };
            }
            let bytes = squares.as_ptr().cast();
            each(Panel { bytes, ..panel });
        });
    }
}

/// Rows in even strips of at most `most`.
fn strips(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (first, rows) = (rows.start, rows.len());
    let count = rows.div_ceil(most);
    (0..count).map(move |i| first + i * rows / count..first + (i + 1) * rows / count)
}
