//! The right side of a product: a weight's squares as tiles read them.
//!
//! The bytes of a weight are read in the order in which they are stored. Those of a transposed one are first
//! rounded once more and transposed: all of them before the tasks begin, or, if they are too many for the
//! cache, by each task as it comes to them.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::body::{Body, Panel};
use super::matrix::{HALVES, Square, WideScales};
use super::{Int8View, SQUARE};
use crate::cpu::buffer::ask_for;

/// How many squares along k a panel has, so that it stays in the cache for all rows of a task.
pub(super) const DEPTH: usize = 12;

/// The most squares that are made before the tasks begin.
const MOST: usize = 512;

/// How many of them a thread makes at a time.
const AT_ONCE: usize = 8;

/// Squares that were made for tiles, or only their scales in 32 bits, kept for the next call.
#[derive(Default)]
pub(super) struct Made {
    squares: Vec<Square>,
    scales: Vec<WideScales>,
}

impl Made {
    fn hold(&mut self, squares: usize, scales: usize) {
        if self.squares.len() < squares {
            self.squares.resize(squares, Square::ZERO);
        }
        if self.scales.len() < scales {
            self.scales.resize(scales, [0.0; HALVES * SQUARE]);
        }
    }
}

thread_local! {
    /// What a task made, kept for the next task.
    static OF_TASK: RefCell<Made> = RefCell::default();
}

/// A weight as the tasks of a product read it.
pub(super) struct Right<'a> {
    body: &'a Body,
    view: Int8View<'a>,
    /// The squares that were made for all tasks, in the order of those of a weight.
    all: Option<&'a Made>,
}

impl<'a> Right<'a> {
    /// A weight for a product of more rows than a tile has.
    pub fn new(body: &'a Body, view: Int8View<'a>, memory: &'a mut Made) -> Self {
        let down = view.rows().div_ceil(SQUARE);
        let count = down * view.cols().div_ceil(SQUARE);
        if !view.is_transposed() || count > MOST {
            return Self::of_few(body, view);
        }
        memory.hold(count, count);
        let squares = memory.squares[..count].par_chunks_mut(AT_ONCE);
        let pieces = squares.zip(memory.scales.par_chunks_mut(AT_ONCE));
        pieces.enumerate().for_each(|(piece, (squares, scales))| {
            let numbers = piece * AT_ONCE..;
            let places = numbers.map(|number| (number % down, number / down));
            make(body, view, places, squares, scales);
        });
        let all = Some(&*memory);
        Self { body, view, all }
    }

    /// A weight whose tasks make what they need: for few rows.
    pub fn of_few(body: &'a Body, view: Int8View<'a>) -> Self {
        let all = None;
        Self { body, view, all }
    }

    /// Whether each task makes the squares that it needs.
    pub fn is_made_by_tasks(&self) -> bool {
        self.view.is_transposed() && self.all.is_none()
    }

    /// Asks memory for the scales of a square of columns that is read next.
    pub fn ask_for(&self, across: usize) {
        ask_for(self.view.scales_of(across));
    }

    /// Calls `each` with the panel of some blocks along k, which must be those of whole squares.
    pub fn with_panel(&self, blocks: Range<usize>, across: usize, each: impl FnOnce(Panel)) {
        let (first, count) = (blocks.start / HALVES, blocks.len().div_ceil(HALVES));
        let panel = |squares: *const Square, scales: &[WideScales]| Panel {
            bytes: squares.cast(),
            scales: scales.as_ptr().cast(),
            blocks: blocks.len(),
        };
        if let Some(all) = self.all {
            let first = across * self.view.rows().div_ceil(SQUARE) + first;
            return each(panel(all.squares[first..].as_ptr(), &all.scales[first..]));
        }
        OF_TASK.with_borrow_mut(|made| {
            if self.view.is_transposed() {
                made.hold(DEPTH, DEPTH);
                let places = (first..).map(|down| (down, across));
                let squares = &mut made.squares[..count];
                make(self.body, self.view, places, squares, &mut made.scales);
                return each(panel(made.squares.as_ptr(), &made.scales));
            }
            made.hold(0, DEPTH);
            for (down, to) in (first..first + count).zip(&mut made.scales) {
                let (_, scales, factors) = self.view.square(down, across);
                (self.body.widen)(scales, factors, to);
            }
            each(panel(self.view.square(first, across).0, &made.scales));
        });
    }
}

/// Rounds squares of a transposed weight once more and transposes them.
fn make(
    body: &Body,
    view: Int8View<'_>,
    places: impl Iterator<Item = (usize, usize)>,
    squares: &mut [Square],
    scales: &mut [WideScales],
) {
    let (mut wide, mut again) = ([0.0; HALVES * SQUARE], Square::ZERO);
    for ((down, across), (to, to_scales)) in places.zip(squares.iter_mut().zip(scales)) {
        let (square, scales, factors) = view.square(down, across);
        (body.widen)(scales, factors, &mut wide);
        (body.round_again)(square, &wide, &mut again, to_scales);
        // SAFETY: the processor has what the body needs; both are squares.
        unsafe { (body.transpose)(again.0.as_ptr(), to.0.as_mut_ptr()) };
    }
}
