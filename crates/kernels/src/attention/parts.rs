//! Queries, keys and values as the CPU reads them.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};

use crate::cpu::attention::Columns;
use crate::remade::Remade;

/// The tensors as the CPU reads them: all in one, or apart.
#[derive(Clone, Debug)]
// A tensor is large, and made once a call: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
pub(super) enum Parts {
    Packed(FloatTensor<Flex>),
    Apart([Part; 3]),
}

/// Queries, keys or values.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub(super) enum Part {
    Kept(FloatTensor<Flex>),
    /// With their shape.
    Remade(Arc<Remade>, [usize; 2]),
}

impl Part {
    fn dims(&self) -> [usize; 2] {
        match self {
            Self::Kept(part) => part.shape().dims(),
            Self::Remade(_, dims) => *dims,
        }
    }

    fn columns(&self) -> Columns<'_> {
        match self {
            Self::Kept(part) => columns(part, 0),
            Self::Remade(part, [_, width]) => Columns::new(part.values(), *width, 0),
        }
    }
}

impl Parts {
    pub(super) fn new(
        q: FloatTensor<Flex>,
        k: Option<FloatTensor<Flex>>,
        v: Option<FloatTensor<Flex>>,
    ) -> Self {
        match (k, v) {
            (Some(k), Some(v)) => Self::Apart([q, k, v].map(|part| Part::Kept(with_rows(part)))),
            _ => Self::Packed(with_rows(q)),
        }
    }

    pub(super) fn tokens(&self) -> usize {
        match self {
            Self::Packed(all) => all.shape()[0],
            Self::Apart([first, ..]) => first.dims()[0],
        }
    }

    /// Drops the parts that can be recomputed.
    pub(super) fn without(self, again: [Option<Arc<Remade>>; 3]) -> Self {
        let Self::Apart(parts) = self else {
            return self;
        };
        let mut again = again.into_iter();
        Self::Apart(parts.map(|part| match again.next().flatten() {
            Some(again) => Part::Remade(again, part.dims()),
            None => part,
        }))
    }

    pub(super) fn columns(&self, widths: [usize; 3]) -> [Columns<'_>; 3] {
        match self {
            Self::Packed(packed) => {
                let [queries, keys, values] = widths;
                let width = queries + keys + values;
                assert_eq!(
                    packed.shape()[1],
                    width,
                    "queries, keys and values side by side"
                );
                [0, queries, queries + keys].map(|offset| columns(packed, offset))
            }
            Self::Apart(apart) => {
                let tokens = self.tokens();
                for (part, width) in apart.iter().zip(widths) {
                    assert_eq!(part.dims(), [tokens, width], "queries, keys or values");
                }
                apart.each_ref().map(Part::columns)
            }
        }
    }
}

/// The same tensor with the values of each row side by side, which [`columns`] can read.
fn with_rows(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let (strides, width) = (tensor.layout().strides(), tensor.shape()[1]);
    if strides[1] == 1 && strides[0] >= width as isize {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The columns of a tensor from `offset` on.
fn columns(tensor: &FloatTensor<Flex>, offset: usize) -> Columns<'_> {
    let layout = tensor.layout();
    let stride = layout.strides()[0] as usize;
    Columns::new(
        &tensor.storage::<f32>()[layout.start_offset()..],
        stride,
        offset,
    )
}
