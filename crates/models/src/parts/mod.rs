//! What the families share of their blocks.

mod activation;
mod attention;
mod mask;
mod projection;

pub use activation::Activation;
pub use attention::attend;
pub use mask::AttentionMask;
pub(crate) use projection::project_onto;
