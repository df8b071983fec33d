//! The weight of an output layer, in any of the forms that weights are kept in.

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

use crate::flex::{is_trained, takes_weight};
use crate::stored::Stored;
use crate::{BlockWeight, Int8Weight, block_linear, int8_linear, linear};

/// The weight of an output layer, `[vocab, d]`.
#[derive(Clone, Debug)]
pub enum HeadWeight {
    /// As a tensor.
    Dense(Tensor<2>),
    /// In the blocks of a GGUF file.
    Blocks(BlockWeight),
    /// In eight bits, in which its products are made.
    Int8(Int8Weight),
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

impl From<Int8Weight> for HeadWeight {
    fn from(weight: Int8Weight) -> Self {
        Self::Int8(weight)
    }
}

impl HeadWeight {
    /// Whether a gradient may be asked for.
    pub(crate) fn is_trained(&self) -> bool {
        matches!(self, Self::Dense(weight) if is_trained(weight))
    }

    /// Whether the specialised bodies take it.
    pub(crate) fn is_taken(&self) -> bool {
        match self {
            Self::Dense(weight) => takes_weight(weight),
            Self::Blocks(_) | Self::Int8(_) => true,
        }
    }

    /// The weight as a tensor `[vocab, d]`; any other form is made dense on `device`.
    pub fn dense(self, device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight,
            Self::Blocks(weight) => weight.dequantize(device),
            Self::Int8(weight) => weight.dequantize(device),
        }
    }

    /// The weight as operations take it, frozen.
    pub(crate) fn stored(self) -> Stored<Dispatch> {
        match self {
            Self::Dense(weight) => Stored::Dense(weight.without_autodiff().into_dispatch()),
            Self::Blocks(weight) => Stored::Blocks(weight),
            Self::Int8(weight) => Stored::Int8(weight),
        }
    }

    /// The logits `[tokens, vocab]` of hidden states `[tokens, d]`.
    pub fn logits(self, hidden: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => linear(hidden, weight.transpose(), None, None, None),
            Self::Blocks(weight) => block_linear(hidden, &weight.transposed(), None, None, None),
            Self::Int8(weight) => int8_linear(hidden, &weight.transposed(), None, None, None),
        }
    }
}
