//! Queries, keys and values, side by side or apart.

use burn::tensor::Tensor;

use super::AttentionOptions;

/// Queries, keys and values of tokens.
#[derive(Clone, Debug)]
// A tensor is large, and made once a call: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
pub enum Qkv {
    /// Side by side, `[tokens, (heads + 2 · kv_heads) · head_dim]`.
    Packed(Tensor<2>),
    /// `[tokens, heads · head_dim]` and twice `[tokens, kv_heads · head_dim]`. Views, such as
    /// columns of a wider tensor, are read in place.
    Apart([Tensor<2>; 3]),
}

impl From<Tensor<2>> for Qkv {
    fn from(packed: Tensor<2>) -> Self {
        Self::Packed(packed)
    }
}

impl From<[Tensor<2>; 3]> for Qkv {
    fn from(apart: [Tensor<2>; 3]) -> Self {
        Self::Apart(apart)
    }
}

impl Qkv {
    /// The one tensor, or the three.
    pub fn tensors(&self) -> &[Tensor<2>] {
        match self {
            Self::Packed(packed) => std::slice::from_ref(packed),
            Self::Apart(apart) => apart,
        }
    }

    /// Whether a tensor is on a device that records gradients.
    pub fn is_autodiff(&self) -> bool {
        self.tensors().iter().any(Tensor::is_autodiff)
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.tensors()[0].dims()[0]
    }

    /// A tensor whose first `heads · head_dim` columns are the queries.
    pub fn queries(&self) -> Tensor<2> {
        self.tensors()[0].clone()
    }

    /// Queries, keys and values apart: `[tokens, heads · head_dim]` and twice
    /// `[tokens, kv_heads · head_dim]`.
    ///
    /// # Panics
    /// If their widths do not fit the heads.
    pub fn parts(self, options: &AttentionOptions) -> [Tensor<2>; 3] {
        let widths = options.widths();
        let found: usize = self.tensors().iter().map(|tensor| tensor.dims()[1]).sum();
        assert_eq!(found, widths.iter().sum::<usize>(), "{options:?}");
        match self {
            Self::Apart(apart) => apart,
            Self::Packed(packed) => {
                let mut end = 0;
                widths.map(|width| {
                    end += width;
                    packed.clone().slice_dim(1, end - width..end)
                })
            }
        }
    }

    /// Queries `[batch, heads, seq, head_dim]`, and keys and values
    /// `[batch, kv_heads, seq, head_dim]`, of a batch whose rows all have the same length.
    ///
    /// # Panics
    /// If their widths do not fit the heads, or if the tokens cannot be split into `batch` rows.
    pub fn heads(self, options: &AttentionOptions, batch: usize) -> [Tensor<4>; 3] {
        let seq = self.tokens() / batch.max(1);
        self.parts(options).map(|part| {
            let [_, width] = part.dims();
            let heads = width / options.head_dim;
            let part = part.reshape([batch, seq, heads, options.head_dim]);
            part.swap_dims(1, 2)
        })
    }

    pub(crate) fn map(self, change: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        match self {
            Self::Packed(packed) => Self::Packed(change(packed)),
            Self::Apart(apart) => Self::Apart(apart.map(change)),
        }
    }
}
