//! The tensors of one to three layers that have the same input.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;

/// How many layers can be computed together: queries, keys and values.
pub(crate) const MOST_LAYERS: usize = 3;

/// A tensor for each layer, or none at all.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) enum Several<B: Backend> {
    None,
    One(FloatTensor<B>),
    Two(FloatTensor<B>, FloatTensor<B>),
    Three(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend> Several<B> {
    /// Of at most [`MOST_LAYERS`] tensors.
    pub fn new(tensors: impl IntoIterator<Item = FloatTensor<B>>) -> Self {
        let mut tensors = tensors.into_iter();
        match [(); MOST_LAYERS].map(|()| tensors.next()) {
            [Some(a), Some(b), Some(c)] => Self::Three(a, b, c),
            [Some(a), Some(b), None] => Self::Two(a, b),
            [Some(a), None, _] => Self::One(a),
            [None, ..] => Self::None,
        }
    }

    pub fn into_vec(self) -> Vec<FloatTensor<B>> {
        match self {
            Self::None => vec![],
            Self::One(a) => vec![a],
            Self::Two(a, b) => vec![a, b],
            Self::Three(a, b, c) => vec![a, b, c],
        }
    }
}

impl Several<Dispatch> {
    /// Of at most [`MOST_LAYERS`] tensors.
    pub fn of<const D: usize>(tensors: impl IntoIterator<Item = Tensor<D>>) -> Self {
        Self::new(tensors.into_iter().map(Tensor::into_dispatch))
    }
}

impl SeveralMetadata {
    pub fn specs(&self) -> Vec<&TensorSpec> {
        match self {
            Self::None => vec![],
            Self::One(a) => vec![a],
            Self::Two(a, b) => vec![a, b],
            Self::Three(a, b, c) => vec![a, b, c],
        }
    }
}

impl FromIterator<TensorSpec> for SeveralMetadata {
    /// Of at most [`MOST_LAYERS`] tensors.
    fn from_iter<I: IntoIterator<Item = TensorSpec>>(specs: I) -> Self {
        let mut specs = specs.into_iter();
        match [(); MOST_LAYERS].map(|()| specs.next()) {
            [Some(a), Some(b), Some(c)] => Self::Three(a, b, c),
            [Some(a), Some(b), None] => Self::Two(a, b),
            [Some(a), None, _] => Self::One(a),
            [None, ..] => Self::None,
        }
    }
}
