//! Products in eight bits: a frozen weight of one byte a value, and activations that are rounded to
//! eight bits as they come.
//!
//! A weight is cut into squares of 64 × 64 values that share a scale, so that the one copy serves both
//! directions; a row of activations into blocks of 64 with a scale each. Of a square and a block the
//! integers' products are summed exactly, and the sums are scaled and added up in f32, block after
//! block along k. Every body takes the same steps, so all of them give the same bits.
//!
//! A block that stands far above the typical one of its row is not rounded but multiplied in f32: what a
//! massive activation would leave of its neighbours is too little. Nor is one with a value that is not
//! finite.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod body;
mod factors;
mod left;
mod matrix;
mod portable;
mod product;
#[cfg(test)]
mod tests;

pub use matrix::{Int8Matrix, Int8View};
pub use product::{RowCounts, body_name, take_row_counts};

pub(in crate::cpu) use product::product;

/// Rows and columns of a square, and the values of a block.
pub const SQUARE: usize = 64;
