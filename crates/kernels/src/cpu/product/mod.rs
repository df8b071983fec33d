//! Matrix products, in f32 and with weights in bf16.

mod choose;
mod gemv;
#[cfg(target_arch = "x86_64")]
mod gemv_avx512;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod micro;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod packed;
mod portable;
#[cfg(test)]
mod tests;
mod weight;

pub use choose::{Onto, product_bf16, product_f32};
pub use matrix::{Matrix, MatrixMut};
pub use weight::Weight;
