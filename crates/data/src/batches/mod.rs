//! Which examples come together, in which order, and how they lie side by side.

pub(crate) mod batch;
pub(crate) mod packing;
pub(crate) mod sampler;
pub(crate) mod stats;
