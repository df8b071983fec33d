//! Batches: which examples come together, in which order, and how they are laid out.

pub(crate) mod batch;
pub(crate) mod packing;
pub(crate) mod sampler;
pub(crate) mod stats;
