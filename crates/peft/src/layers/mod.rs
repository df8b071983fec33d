//! The kinds of layers that a slot can hold.

mod base_layer;
mod conv1d;
mod embedding;
mod info;
mod layer_norm;
mod linear;
mod rms_norm;

pub use base_layer::{BaseLayer, LayerInput};
pub use conv1d::Conv1D;
pub use info::{LayerInfo, LayerKind};
pub use layer_norm::LayerNorm;
pub use rms_norm::RmsNorm;
