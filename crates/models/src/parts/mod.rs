//! What the families share of their blocks.

mod activation;
mod attention;
mod mask;
mod projection;

pub use activation::Activation;
pub use attention::{Heads, attend, scores, split_heads};
pub use mask::AttentionMask;
pub(crate) use projection::project_onto;
