//! Layers with random weights, which are created when they are first used.

use burn::module::Initializer;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::Device;
use burn_peft::LoraAdapter;

/// A linear layer whose weight is normally distributed with standard deviation `std`.
pub(crate) fn random_linear(
    [d_in, d_out]: [usize; 2],
    bias: bool,
    std: f64,
    device: &Device,
) -> LoraAdapter<Linear> {
    let layer = LinearConfig::new(d_in, d_out).with_bias(bias);
    LoraAdapter::new(layer.with_initializer(normal(std)).init(device))
}

/// An embedding of `rows` vectors of width `d`, as [`random_linear`].
pub(crate) fn random_embedding(
    [rows, d]: [usize; 2],
    std: f64,
    device: &Device,
) -> LoraAdapter<Embedding> {
    let layer = EmbeddingConfig::new(rows, d).with_initializer(normal(std));
    LoraAdapter::new(layer.init(device))
}

fn normal(std: f64) -> Initializer {
    Initializer::Normal { mean: 0.0, std }
}
