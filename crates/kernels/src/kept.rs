//! Inputs as they are kept for a gradient.

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use crate::cpu::glu::Values;
use crate::cpu::narrow::{narrowed, widened};
use crate::flex::{contiguous, values};

/// An input in 32 bits, or in bf16. Rounding it to bf16 matters little where the products that
/// follow round too.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Wide(FloatTensor<Flex>),
    Narrow(Arc<Vec<u16>>),
}

impl Kept {
    pub(crate) fn new(tensor: FloatTensor<Flex>, is_narrow: bool) -> Self {
        let tensor = contiguous(tensor);
        if is_narrow {
            Self::Narrow(Arc::new(narrowed(values(&tensor))))
        } else {
            Self::Wide(tensor)
        }
    }

    pub(crate) fn values(&self) -> Values<'_> {
        match self {
            Self::Wide(tensor) => Values::Wide(values(tensor)),
            Self::Narrow(bits) => Values::Narrow(bits),
        }
    }

    /// All of them in 32 bits.
    pub(crate) fn wide(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Wide(tensor) => values(tensor).into(),
            Self::Narrow(bits) => widened(bits).into(),
        }
    }
}
