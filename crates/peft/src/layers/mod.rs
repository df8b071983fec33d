//! The kinds of layers that a slot can hold.

mod base_layer;
mod conv1d;
mod convolution;
mod embedding;
mod info;
mod input;
mod layer_norm;
mod linear;
mod rms_norm;

pub use base_layer::BaseLayer;
pub use conv1d::Conv1D;
pub use convolution::ConvInfo;
pub use info::{LayerInfo, LayerKind};
pub use input::{LayerInput, LayerOutput, OutputOf};
pub use layer_norm::LayerNorm;
pub use rms_norm::RmsNorm;
