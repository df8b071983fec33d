//! The specialised bodies for the CPU: functions on slices that know nothing of tensors.
//!
//! Every result is the same, bit for bit, for any number of threads.

pub mod activation;
pub mod attention;
pub mod blocks;
pub mod buffer;
pub mod dropout;
pub mod elementwise;
pub mod exp;
pub mod feed_forward;
pub mod glu;
pub mod int8;
pub mod low_rank;
pub mod narrow;
pub mod norm;
pub mod product;
pub mod quantize;
pub mod random;
pub mod rms_norm;
pub mod rope;
pub mod vocabulary;

pub use activation::ActivationKind;
pub use blocks::{BlockMatrix, BlockType};
pub use int8::{Int8Matrix, Int8View};
pub use low_rank::LowRank;
pub use product::{Matrix, MatrixMut, Onto, Weight};
pub use quantize::QuantType;
pub use rope::Pairing;
