//! The product: C is cut into tasks, no two of which write to the same part of it.
//!
//! The sum of a row runs along k, block by block, and is added to C after a fixed number of blocks. So a
//! result has the same bits for any number of tasks and any other rows.

use std::cell::Cell;
use std::ops::Range;
use std::ptr::{self, addr_of};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::body::{Body, Panel, Part, Tile};
use super::left::{Left, Memory, Note, Rest};
use super::matrix::{HALVES, PANEL, PANEL_BYTES};
use super::right::{DEPTH, Made, Right};
use super::{BLOCK, Int8View, SQUARE};
use crate::cpu::low_rank::{Beside, make_hidden};
use crate::cpu::product::{Output, start};
use crate::cpu::{Matrix, MatrixMut, Onto};

/// The most rows of a task, so that their codes stay in the cache; and the most if each task makes its
/// squares anew.
const ROWS: [usize; 2] = [512, 1024];

/// A product of few rows with so many kilobytes is one task: starting a second thread takes longer.
const ALONE: usize = 64;

/// The fewest kilobytes of a task, if there are few rows.
const TASK: usize = 32;

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
    /// The memory of both sides, kept for the next call.
    static MEMORY: Cell<(Memory, Made)> = Cell::default();
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
    if m <= body.rows {
        let output = Output::new(onto, c);
        let layer = Layer {
            weight: b,
            beside,
            output,
        };
        return few(body, a, &[layer]);
    }
    // Taken, not borrowed: this thread may steal a task that comes here too.
    let mut memory = MEMORY.take();
    let left = Left::new(body, a, b.limit(), beside, &mut memory.0);
    count(&left);
    let right = Right::new(body, b, &mut memory.1);
    let down = m.div_ceil(ROWS[usize::from(right.is_made_by_tasks())]);
    let across = n.div_ceil(SQUARE);
    let output = Output::new(onto, c);
    let product = Product {
        body,
        left: &left,
        right,
        output: &output,
    };
    for_each(down * across, |task| {
        let (i, j) = (task / across, task % across);
        let rows = i * m / down..(i + 1) * m / down;
        let columns = j * SQUARE..n.min((j + 1) * SQUARE);
        product.run(rows.clone(), columns.clone());
        if let Some(beside) = beside {
            // SAFETY: the rows were made with the left side; this part of C is the task's.
            unsafe { beside.part(rows, columns, &output) };
        }
    });
    MEMORY.set(memory);
}

/// Counts the blocks of a rounded left side.
fn count(left: &Left<'_>) {
    ALL.fetch_add(left.notes.len() as u64, Ordering::Relaxed);
    OUTLIERS.fetch_add(left.rests.len() as u64, Ordering::Relaxed);
}

/// Runs tasks on all threads.
fn for_each(tasks: usize, run: impl Fn(usize) + Sync + Send) {
    if tasks == 1 {
        return run(0);
    }
    let tasks = (0..tasks).into_par_iter();
    tasks.with_max_len(1).for_each(run);
}

/// The next task of a thread's share, alone in its cache lines.
#[repr(align(128))]
struct Next(AtomicUsize);

/// Runs many small tasks: each thread those of its share in order, and then what is left of the others'.
/// Taking one costs less than if each were a task of rayon's.
fn for_each_in_shares(tasks: usize, run: impl Fn(usize) + Sync + Send) {
    if tasks == 1 {
        return run(0);
    }
    let threads = rayon::current_num_threads();
    let first = |share| share * tasks / threads;
    let shares: Vec<_> = (0..threads)
        .map(|share| Next(AtomicUsize::new(first(share))))
        .collect();
    for_each(threads, |thread| {
        for share in (thread..threads).chain(0..thread) {
            loop {
                let task = shares[share].0.fetch_add(1, Ordering::Relaxed);
                if task >= first(share + 1) {
                    break;
                }
                run(task);
            }
        }
    });
}

/// One of several products with the same left side.
pub(super) struct Layer<'a> {
    pub weight: Int8View<'a>,
    /// A low-rank product to be added.
    pub beside: Option<&'a Beside<'a>>,
    pub output: Output,
}

/// The products with several weights that have the same limit, of no more rows than a tile has. The
/// shapes must fit, and no size may be zero.
pub(super) fn few(body: &Body, a: Matrix<'_, f32>, layers: &[Layer<'_>]) {
    // Taken, not borrowed: this thread may steal a task that comes here too.
    let mut memory = MEMORY.take();
    let left = Left::new(body, a, layers[0].weight.limit(), None, &mut memory.0);
    count(&left);
    let besides: Vec<_> = layers.iter().filter_map(|layer| layer.beside).collect();
    make_hidden(&besides);
    let squares = |layer: &Layer<'_>| layer.weight.cols().div_ceil(SQUARE);
    let panels = layers.iter().map(squares).sum::<usize>() * SQUARE / PANEL;
    let tasks = tasks_of_few(panels, left.blocks);
    let run = |layer: &Layer<'_>, columns: Range<usize>| {
        let product = Product {
            body,
            left: &left,
            right: Right::of_few(body, layer.weight),
            output: &layer.output,
        };
        for columns in by_squares(columns) {
            product.right.ask_for(columns.start / SQUARE + 1);
            if let Some(beside) = layer.beside {
                beside.ask_for(columns.clone());
            }
            product.run(0..a.rows(), columns.clone());
            if let Some(beside) = layer.beside {
                // SAFETY: the rows were made; this part of C is the task's.
                unsafe { beside.part(0..a.rows(), columns, &layer.output) };
            }
        }
    };
    for_each_in_shares(tasks, |task| {
        let [from, to] = [task, task + 1].map(|task| first_of_few(task, tasks, panels) * PANEL);
        // The columns of all layers are counted together, each layer's in whole squares.
        let mut first = 0;
        for layer in layers {
            let n = layer.weight.cols();
            let [from, to] = [from, to].map(|column| column.saturating_sub(first).min(n));
            if from < to {
                run(layer, from..to);
            }
            first += squares(layer) * SQUARE;
        }
    });
    MEMORY.set(memory);
}

/// How many tasks products of few rows have, of so many panels: reading the weight is all their work, so
/// that all threads should read as much.
fn tasks_of_few(panels: usize, blocks: usize) -> usize {
    let kilobytes = panels * blocks * PANEL_BYTES / 1024;
    if kilobytes <= ALONE {
        return 1;
    }
    let threads = rayon::current_num_threads();
    (kilobytes / TASK).next_multiple_of(threads).min(panels)
}

/// The first panel of a task of few rows: a square's, because a square is read faster as a whole, except
/// where the threads' shares meet, which then are the same.
fn first_of_few(task: usize, tasks: usize, panels: usize) -> usize {
    let first = task * panels / tasks;
    let is_share = (task * rayon::current_num_threads()).is_multiple_of(tasks);
    if is_share {
        first
    } else {
        first.next_multiple_of(SQUARE / PANEL)
    }
}

/// Cuts columns where squares end.
fn by_squares(columns: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let squares = columns.start / SQUARE..columns.end.div_ceil(SQUARE);
    squares.map(move |square| {
        let (start, end) = (square * SQUARE, (square + 1) * SQUARE);
        columns.start.max(start)..columns.end.min(end)
    })
}

/// One call of [`product`], as its tasks share it.
struct Product<'a> {
    body: &'a Body,
    left: &'a Left<'a>,
    right: Right<'a>,
    output: &'a Output,
}

impl Product<'_> {
    /// Computes some rows of C, for columns of one square.
    fn run(&self, rows: Range<usize>, all_columns: Range<usize>) {
        let (body, left) = (self.body, self.left);
        let across = all_columns.start / SQUARE;
        for from in (0..left.blocks).step_by(DEPTH * HALVES) {
            let to = left.blocks.min(from + DEPTH * HALVES);
            self.right.with_panel(from..to, across, |panel| {
                for (right, columns, run) in self.panels(panel, rows.len(), &all_columns) {
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
                            output: self.part(strip.start, &columns, from > 0),
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
                    self.run_rests(&rows, block, panel.only(block - from), &all_columns);
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
        columns: &Range<usize>,
    ) -> impl Iterator<Item = (Panel, Range<usize>, unsafe fn(&Tile))> + use<> {
        let is_wide = rows <= self.body.wide_rows && columns.len() > PANEL;
        let (width, run) = if is_wide {
            (SQUARE, self.body.wide_tile)
        } else {
            (PANEL, self.body.tile)
        };
        let end = columns.end;
        columns.clone().step_by(width).map(move |first| {
            let columns = first..end.min(first + width);
            (panel.at_column(first % SQUARE), columns, run)
        })
    }

    /// Multiplies the [`Rest`]s of one block too, and adds the products to C.
    fn run_rests(
        &self,
        rows: &Range<usize>,
        block: usize,
        panel: Panel,
        all_columns: &Range<usize>,
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
                        ..self.part(0, &columns, true)
                    },
                };
                // SAFETY: as for the other tiles; no two rests of a block are of one row.
                unsafe { run(&tile) };
            }
        }
    }

    /// The part of C from a row on, in some columns. If `goes_on`, sums are added to what C holds.
    fn part(&self, row: usize, columns: &Range<usize>, goes_on: bool) -> Part {
        let (c, base, base_stride) = self.output.at(row, columns.start, goes_on);
        Part {
            c,
            c_stride: self.output.stride(),
            base,
            base_stride,
            columns: columns.len(),
            rests: ptr::null(),
        }
    }
}

/// Cuts rows into strips of about the same size, each of at most `most`.
fn strips(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (first, rows) = (rows.start, rows.len());
    let count = rows.div_ceil(most);
    (0..count).map(move |i| first + i * rows / count..first + (i + 1) * rows / count)
}
