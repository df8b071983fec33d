//! What the families share of their blocks.

mod activation;
mod attention;
mod mask;
mod norm;
mod projection;
mod rope;
mod scaled;
mod xielu;

pub use activation::Activation;
pub use attention::attend;
pub use mask::AttentionMask;
pub use norm::{Norm, NormKind};
pub(crate) use projection::project_onto;
pub use rope::{Rope, RopeTable, Scaling};
pub(crate) use scaled::scaled;
pub use xielu::Xielu;
