//! Forms in which a frozen weight is stored other than as a parameter.

use burn::tensor::{Device, Int, Tensor};
use burn_peft_kernels::{
    BlockWeight, HeadWeight, Int8Weight, Lora, QuantizedWeight, block_linear, cpu_device,
    int8_linear, quantized_linear,
};

/// A frozen weight that is stored outside the layer, whose own parameter was released:
/// `[d_in, d_out]` for a linear layer, `[vocab, d]` for an embedding.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// Codes, from which a dense weight is computed.
    Quantized(Box<QuantizedWeight>),
    /// The blocks of a file.
    Blocks(BlockWeight),
    /// Eight-bit integers, in which products are computed.
    Int8(Int8Weight),
}

impl Kept {
    pub(crate) fn dims(&self) -> [usize; 2] {
        match self {
            Self::Quantized(weight) => weight.dims(),
            Self::Blocks(weight) => weight.dims(),
            Self::Int8(weight) => weight.dims(),
        }
    }

    /// The values in 32 bits; codes are on their device already.
    pub(crate) fn dequantize(&self, device: &Device) -> Tensor<2> {
        match self {
            Self::Quantized(weight) => weight.dequantize(),
            Self::Blocks(weight) => weight.dequantize(device),
            Self::Int8(weight) => weight.dequantize(device),
        }
    }

    /// Another weight of the same shape, rounded in the same way; `None` for blocks, which belong
    /// to a file.
    pub(crate) fn requantized(&self, weight: Tensor<2>) -> Option<Self> {
        match self {
            Self::Quantized(old) => Some(Self::Quantized(Box::new(old.requantized(weight)))),
            Self::Blocks(_) => None,
            Self::Int8(old) => {
                let weight = weight.without_autodiff();
                Some(Self::Int8(old.requantized(&weight)))
            }
        }
    }

    /// The device for a weight that will be [`requantized`](Self::requantized).
    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Quantized(weight) => weight.absmax().device().without_autodiff(),
            Self::Blocks(_) | Self::Int8(_) => cpu_device(),
        }
    }

    /// The same weight, with its codes mapped by one of Burn's module functions.
    pub(crate) fn map_codes(self, map: impl FnOnce(QuantizedWeight) -> QuantizedWeight) -> Self {
        match self {
            Self::Quantized(weight) => Self::Quantized(Box::new(map(*weight))),
            kept => kept,
        }
    }

    /// The transposed weight over the same bytes, if it has bytes.
    pub(crate) fn transposed(&self) -> Option<Self> {
        match self {
            Self::Quantized(_) => None,
            Self::Blocks(weight) => Some(Self::Blocks(weight.transposed())),
            Self::Int8(weight) => Some(Self::Int8(weight.transposed())),
        }
    }

    /// The output of a linear layer, `[tokens, d_out]`, for an input `[tokens, d_in]`.
    pub(crate) fn linear(
        &self,
        input: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Option<Tensor<2>>,
        lora: Option<Lora>,
    ) -> Tensor<2> {
        match self {
            Self::Quantized(weight) => quantized_linear(input, weight, bias, residual, lora),
            Self::Blocks(weight) => block_linear(input, weight, bias, residual, lora),
            Self::Int8(weight) => int8_linear(input, weight, bias, residual, lora),
        }
    }

    /// Rows of an embedding in 32 bits, `[ids, d]`.
    pub(crate) fn select(&self, ids: Tensor<1, Int>, device: &Device) -> Tensor<2> {
        match self {
            Self::Quantized(weight) => weight.dequantize().select(0, ids),
            Self::Blocks(weight) => weight.select(ids, device),
            Self::Int8(weight) => weight.select(ids, device),
        }
    }

    /// The weight of an output layer, if it can be used as one directly.
    pub(crate) fn head(self) -> Option<HeadWeight> {
        match self {
            Self::Quantized(_) => None,
            Self::Blocks(weight) => Some(weight.into()),
            Self::Int8(weight) => Some(weight.into()),
        }
    }
}
