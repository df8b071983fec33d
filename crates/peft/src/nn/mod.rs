//! Burn's layers that consist of other layers, with slots in them.
//!
//! The fields of Burn's own `MultiHeadAttention` and `TransformerEncoder` are plain layers. The
//! structs here have the same names and the same fields, but with slots, and compute the same, so a
//! model only needs another `use`. A record of Burn's layer loads into them, and `From` converts
//! Burn's layer itself.
//!
//! ```
//! use burn::nn::transformer::TransformerEncoderConfig;
//! use burn::tensor::{Device, Tensor};
//! use burn_peft::nn::{TransformerEncoder, TransformerEncoderInput};
//!
//! let device = Device::flex();
//! let plain = TransformerEncoderConfig::new(8, 16, 2, 1).init(&device);
//! let encoder = TransformerEncoder::from(plain);
//! let input = TransformerEncoderInput::new(Tensor::ones([1, 5, 8], &device));
//! assert_eq!(encoder.forward(input).dims(), [1, 5, 8]);
//! ```

mod attention;
mod encoder;

pub use attention::{MhaInput, MultiHeadAttention};
pub use encoder::{
    PositionWiseFeedForward, TransformerEncoder, TransformerEncoderInput, TransformerEncoderLayer,
};
