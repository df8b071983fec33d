//! A block of a decoder.

use burn::module::Module;
use burn::tensor::Tensor;

use super::Pass;
use crate::KvCache;

/// A cache, and the index in it of the block that it is passed to.
pub type LayerCache<'a> = Option<(&'a mut KvCache, usize)>;

/// A block that a decoder's hidden states pass through.
pub trait DecoderBlock: Module {
    /// Maps `[batch * seq, d]` to the same shape.
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2>;
}
