//! A block of a decoder.

use burn::module::Module;
use burn::tensor::Tensor;

use super::Pass;
use crate::KvCache;

/// A block that a decoder's hidden states pass through.
pub trait DecoderBlock: Module {
    /// Maps `[batch * seq, d]` to the same shape. `cache` is the cache and the block's index in it.
    fn forward(
        &self,
        input: Tensor<2>,
        pass: &Pass,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<2>;
}
