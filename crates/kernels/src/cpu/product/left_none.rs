//! Replaces `left.rs` on processors whose products do not round their left side.

use super::Matrix;

/// A type without values: such a processor packs nothing.
#[derive(Debug)]
pub enum PackedLeft {}

impl PackedLeft {
    /// Returns `false`.
    pub fn is_available() -> bool {
        false
    }

    /// Returns `None`.
    pub fn room(_rows: usize, _cols: usize) -> Option<Self> {
        None
    }

    /// Returns `None`.
    pub fn new(_: Matrix<'_, f32>) -> Option<Self> {
        None
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match *self {}
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        match *self {}
    }

    /// Writes a row's values to `out`.
    pub fn read_row(&self, _row: usize, _out: &mut [f32]) {
        match *self {}
    }

    /// A writer, through which each thread writes its own rows.
    pub fn writer(&mut self) -> Writer<'_> {
        match *self {}
    }
}

/// Lets several threads write a [`PackedLeft`].
pub struct Writer<'a>(&'a PackedLeft);

impl Writer<'_> {
    /// Packs rows.
    ///
    /// # Safety
    /// There is nothing to promise.
    pub unsafe fn write(&self, _first: usize, _rows: Matrix<'_, f32>) {
        match *self.0 {}
    }
}
