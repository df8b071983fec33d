//! In place of `left.rs` on processors whose products do not round their left side.

use super::Matrix;

/// What no such processor makes.
#[derive(Debug)]
pub enum PackedLeft {}

impl PackedLeft {
    /// No.
    pub fn is_available() -> bool {
        false
    }

    /// None.
    pub fn room(_rows: usize, _cols: usize) -> Option<Self> {
        None
    }

    /// None.
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

    /// For threads to write rows of their own.
    pub fn writer(&mut self) -> Writer<'_> {
        match *self {}
    }
}

/// What writes a [`PackedLeft`].
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
