//! A block of a decoder.

use burn::module::Module;
use burn::tensor::Tensor;

use super::Pass;
use crate::KvCache;

/// One of the blocks that a decoder's hidden states run through.
pub trait DecoderBlock: Module {
    /// Maps `[batch * seq, d]` to the same shape. The cache comes with the block's index in it.
    fn forward(
        &self,
        input: Tensor<2>,
        pass: &Pass,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<2>;
}
