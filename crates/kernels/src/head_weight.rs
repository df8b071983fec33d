//! The weight of an output layer in whatever form it is kept in.

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

use crate::stored::Stored;
use crate::{BlockWeight, block_linear, linear};

/// The weight of an output layer, `[vocab, d]`.
#[derive(Clone, Debug)]
pub enum HeadWeight {
    /// As a tensor.
    Dense(Tensor<2>),
    /// As a GGUF file has it.
    Blocks(BlockWeight),
}

impl From<Tensor<2>> for HeadWeight {
    fn from(weight: Tensor<2>) -> Self {
        Self::Dense(weight)
    }
}

impl From<BlockWeight> for HeadWeight {
    fn from(weight: BlockWeight) -> Self {
        Self::Blocks(weight)
    }
}

impl HeadWeight {
    /// The weight as a tensor; blocks become one on `device`.
    pub fn dense(self, device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight,
            Self::Blocks(weight) => weight.dequantize(device),
        }
    }

    /// As operations take it, frozen.
    pub(crate) fn stored(self) -> Stored<Dispatch> {
        match self {
            Self::Dense(weight) => Stored::Dense(weight.without_autodiff().into_dispatch()),
            Self::Blocks(weight) => Stored::Blocks(weight),
        }
    }

    /// The logits `[tokens, vocab]` of hidden states `[tokens, d]`.
    pub fn logits(self, hidden: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => linear(hidden, weight.transpose(), None, None, None),
            Self::Blocks(weight) => block_linear(hidden, &weight.transposed(), None, None, None),
        }
    }
}
