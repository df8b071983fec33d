//! Weights in the forms they are kept in, as operations take them and as the CPU reads them.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, TensorMetadata};
use burn::tensor::DType;

use crate::cpu::product::PackedLeft;
use crate::cpu::{Matrix, Weight};
use crate::flex::{OnTape, readable, weight as view, widened};
use crate::quantized::{Form, Packed};
use crate::{BlockWeight, Int8Weight};

/// A weight in the form it is kept in.
#[derive(ExtensionType)]
pub(crate) enum Stored<B: Backend> {
    Dense(FloatTensor<B>),
    Quantized {
        codes: IntTensor<B>,
        absmax: FloatTensor<B>,
        form: Form,
    },
    Blocks(BlockWeight),
    Int8(Int8Weight),
}

/// The same, as the CPU reads it.
#[derive(Clone, Debug)]
pub(crate) enum Readable {
    Dense(FloatTensor<Flex>),
    Quantized(Packed),
    Blocks(BlockWeight),
    Int8(Int8Weight),
}

impl From<Stored<Flex>> for Readable {
    fn from(weight: Stored<Flex>) -> Self {
        match weight {
            Stored::Dense(weight) => Self::Dense(readable(weight)),
            Stored::Quantized {
                codes,
                absmax,
                form,
            } => Self::Quantized(Packed {
                codes,
                absmax,
                form,
            }),
            Stored::Blocks(weight) => Self::Blocks(weight),
            Stored::Int8(weight) => Self::Int8(weight),
        }
    }
}

impl Readable {
    /// `[d_in, d_out]`.
    pub(crate) fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.shape().dims(),
            Self::Quantized(weight) => weight.dims(),
            Self::Blocks(weight) => weight.dims(),
            Self::Int8(weight) => weight.dims(),
        }
    }

    /// Packs the left side of a product with the weight, if that is worth it.
    pub(crate) fn packed_for(&self, a: Matrix<'_, f32>) -> Option<PackedLeft> {
        let wants = match self {
            Self::Dense(weight) => {
                weight.dtype() == DType::BF16 && view(weight).wants_packed(a.rows())
            }
            Self::Quantized(_) | Self::Int8(_) => false,
            Self::Blocks(weight) => weight.weight().wants_packed(a.rows()),
        };
        wants.then(|| PackedLeft::new(a)).flatten()
    }

    /// Runs `body` with the weight. Dense values that are made for it are dropped after it.
    pub(crate) fn with<R>(&self, body: impl FnOnce(Weight<'_>) -> R) -> R {
        match self {
            Self::Dense(weight) => body(view(&widened(weight))),
            Self::Quantized(weight) => weight.with_dense(body),
            Self::Blocks(weight) => body(weight.weight()),
            Self::Int8(weight) => body(weight.weight()),
        }
    }
}

/// The weight off the tape, and the tensor whose gradient may be asked for.
pub(crate) fn inner_of<C: CheckpointStrategy>(
    weight: Stored<Autodiff<Flex, C>>,
) -> (Stored<Flex>, Option<OnTape<C>>) {
    match weight {
        Stored::Dense(weight) => (Stored::Dense(weight.primitive().clone()), Some(weight)),
        Stored::Quantized {
            codes,
            absmax,
            form,
        } => {
            let absmax = absmax.into_primitive();
            let weight = Stored::Quantized {
                codes,
                absmax,
                form,
            };
            (weight, None)
        }
        Stored::Blocks(weight) => (Stored::Blocks(weight), None),
        Stored::Int8(weight) => (Stored::Int8(weight), None),
    }
}
