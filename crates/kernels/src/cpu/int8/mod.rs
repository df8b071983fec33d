//! Products in eight bits, of a frozen weight with one byte per value and activations that are
//! rounded to eight bits on the way.
//!
//! Every 32 neighbours along a column of a weight share a scale, as in GGUF's Q8_0; so do every 32
//! along a row of activations. The products of two such blocks are summed exactly, as integers.
//! These sums are scaled and added up in f32, block by block along k. In a product with the
//! transposed weight, each value of a sum would have another scale, so the weight is rounded once
//! more for it as it is used, with scales along its rows. Every body takes the same steps, so all
//! give the same bits.
//!
//! A block that is far larger than the typical one of its row is rounded to 16 bits: what its eight
//! bits leave out, its rest, is rounded to eight bits and multiplied too. Otherwise a massive
//! activation would leave its neighbours too few digits. A row with a value that is not finite
//! gives NaN.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod body;
mod left;
#[cfg(target_arch = "x86_64")]
mod left_avx512;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod product;
mod right;
mod rounding;
#[cfg(test)]
mod tests;
mod together;
mod view;

pub use matrix::Int8Matrix;
pub use product::{BlockCounts, body_name, take_block_counts};
pub use together::{Part, products};
pub use view::{Int8View, Limit};

pub(in crate::cpu) use product::product;

/// The number of rows and of columns of a square, whose bytes are stored together.
pub const SQUARE: usize = 64;

/// The number of values that share a scale.
pub const BLOCK: usize = 32;
