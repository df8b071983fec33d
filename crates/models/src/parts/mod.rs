//! The parts of blocks that families share.

mod activation;
mod attention;
mod feed_forward;
mod mask;
mod norm;
mod projection;
mod random;
mod rope;
mod scaled;
mod xielu;

pub use activation::Activation;
pub use attention::attend;
pub(crate) use feed_forward::{two_layers, unadapted};
pub use mask::AttentionMask;
pub use norm::{Norm, NormKind};
pub(crate) use projection::project_onto;
pub(crate) use random::{random_embedding, random_linear};
pub use rope::{Rope, RopeTable, Scaling};
pub(crate) use scaled::scaled;
pub use xielu::Xielu;
