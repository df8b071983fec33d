//! Products in eight bits: a frozen weight of one byte a value, and activations that are rounded to
//! eight bits as they come.
//!
//! 32 neighbours along a column of a weight share a scale, as in GGUF's Q8_0; so do 32 of a row of
//! activations. The products of two such blocks are summed exactly, as integers; these sums are scaled
//! and added up in f32, block by block along k. A product with the transposed weight would meet another
//! scale at each value of a sum: for it the weight is rounded once more as it is used, with scales along
//! its rows. Every body takes the same steps, so all of them give the same bits.
//!
//! A block that is far larger than the typical one of its row is rounded to 16 bits: the difference from
//! its eight bits, its rest, is rounded to eight bits and multiplied too. Else a massive activation would
//! leave too few digits to its neighbours. A row with a value that is not finite gives NaN.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod body;
mod left;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod product;
mod rounding;
#[cfg(test)]
mod tests;
mod view;

pub use matrix::Int8Matrix;
pub use product::{BlockCounts, body_name, take_block_counts};
pub use view::{Int8View, Limit};

pub(in crate::cpu) use product::product;

/// Rows and columns of a square, in which bytes lie together.
pub const SQUARE: usize = 64;

/// Values that share a scale.
pub const BLOCK: usize = 32;
