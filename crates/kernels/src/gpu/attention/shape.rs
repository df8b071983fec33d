//! What kernels are compiled for, and the numbers that they are launched with.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::tile::{ROWS, UNITS};
use crate::gpu::mask::Mask;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// How many columns are in shared memory at once.
    pub chunk: usize,
    pub causal: bool,
    pub capped: bool,
    pub drops: bool,
}

impl Shape {
    pub fn parts(&self) -> usize {
        self.head_dim.div_ceil(self.chunk)
    }

    /// The columns of a head's part.
    pub fn width(&self, part: usize) -> usize {
        self.chunk.min(self.head_dim - part * self.chunk)
    }

    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// How many sums of a head a unit holds.
    pub fn sums(&self) -> usize {
        self.parts() * self.chunk * ROWS / UNITS
    }
}

/// Numbers that may differ from launch to launch.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Numbers {
    /// The columns at which queries, keys and values begin.
    pub queries_at: usize,
    pub keys_at: usize,
    pub values_at: usize,
    pub scale: f32,
    pub softcap: f32,
    /// A key is seen if it is less than this far away.
    pub window: i32,
    /// Dropout of the weights: a row for each token and head, a column for each key.
    pub dropout: Mask,
}
