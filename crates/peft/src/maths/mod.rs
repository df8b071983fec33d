//! Mathematics that Burn does not have.

pub(crate) mod svd;
pub(crate) mod torch_random;
