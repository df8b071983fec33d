//! What kernels are compiled for, and the numbers that they are launched with.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::tile::{ROWS, UNITS};

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
    /// The seed of dropout and the number of the first row.
    pub seed_1: u32,
    pub seed_2: u32,
    pub first: u32,
    pub threshold: u32,
    pub kept: f32,
}
