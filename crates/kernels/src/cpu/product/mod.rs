//! Matrix products, in f32 and with weights in bf16, in blocks or in eight bits.

mod blocks;
#[cfg(target_arch = "x86_64")]
mod blocks_few;
#[cfg(target_arch = "x86_64")]
mod blocks_pack;
mod choose;
#[cfg(target_arch = "x86_64")]
mod few;
mod gemv;
#[cfg(target_arch = "x86_64")]
mod gemv_avx512;
#[cfg(target_arch = "x86_64")]
mod left;
#[cfg(not(target_arch = "x86_64"))]
#[path = "left_none.rs"]
mod left;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod micro;
mod output;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod packed;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod thin;
mod weight;

pub use choose::{Onto, product_bf16, product_f32, product_packed};
pub(crate) use gemv::ROWS as FEW_ROWS;
pub(in crate::cpu) use gemv::{WORTH_SHARING, add_few_columns};
pub use left::{PackedLeft, Writer};
pub use matrix::{Matrix, MatrixMut};
pub(in crate::cpu) use output::Output;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) use packed::{Operand, operand};
pub(in crate::cpu) use portable::start;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) use thin::Panels;
pub use weight::{Left, Weight};
