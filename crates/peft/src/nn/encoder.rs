//! Burn's transformer encoder.

use burn::module::Module;
use burn::nn::activation::Activation;
use burn::nn::transformer;
use burn::nn::{Dropout, LayerNorm, Linear};
use burn::tensor::{Bool, Tensor};

use super::{MhaInput, MultiHeadAttention};
use crate::{Adaptable, LoraAdapter};

/// Burn's `PositionWiseFeedForward` with slots for both layers.
#[derive(Module, Adaptable, Debug)]
pub struct PositionWiseFeedForward {
    /// From `d_model` to `d_ff`.
    pub linear_inner: LoraAdapter<Linear>,
    /// From `d_ff` to `d_model`.
    pub linear_outer: LoraAdapter<Linear>,
    /// Acts on the output of the activation.
    pub dropout: Dropout,
    /// Acts between the two layers.
    #[module(skip)]
    pub activation: Activation,
}

impl From<transformer::PositionWiseFeedForward> for PositionWiseFeedForward {
    fn from(plain: transformer::PositionWiseFeedForward) -> Self {
        Self {
            linear_inner: LoraAdapter::new(plain.linear_inner),
            linear_outer: LoraAdapter::new(plain.linear_outer),
            dropout: plain.dropout,
            activation: plain.activation,
        }
    }
}

impl PositionWiseFeedForward {
    /// Maps `[…, d_model]` to the same shape.
    ///
    /// # Panics
    /// If the input is not `d_model` wide.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let hidden = self.linear_inner.forward_nd(input);
        let hidden = self.dropout.forward(self.activation.forward(hidden));
        self.linear_outer.forward_nd(hidden)
    }
}

/// Burn's `TransformerEncoderLayer` with slots.
#[derive(Module, Adaptable, Debug)]
pub struct TransformerEncoderLayer {
    /// The attention.
    pub mha: MultiHeadAttention,
    /// The feed-forward network.
    pub pwff: PositionWiseFeedForward,
    /// The norm of the feed-forward network.
    pub norm_1: LoraAdapter<LayerNorm>,
    /// The norm of the attention if norms come first, otherwise the one at the end.
    pub norm_2: LoraAdapter<LayerNorm>,
    /// Acts on the output of both parts before it is added.
    pub dropout: Dropout,
    /// Whether norms come before the parts.
    pub norm_first: bool,
}

impl From<transformer::TransformerEncoderLayer> for TransformerEncoderLayer {
    fn from(plain: transformer::TransformerEncoderLayer) -> Self {
        Self {
            mha: plain.mha.into(),
            pwff: plain.pwff.into(),
            norm_1: LoraAdapter::new(plain.norm_1),
            norm_2: LoraAdapter::new(plain.norm_2),
            dropout: plain.dropout,
            norm_first: plain.norm_first,
        }
    }
}

impl TransformerEncoderLayer {
    /// Maps `[batch, seq, d_model]` to the same shape; the masks are those of [`MhaInput`].
    ///
    /// # Panics
    /// If the input is not `d_model` wide.
    pub fn forward(
        &self,
        input: Tensor<3>,
        mask_pad: Option<Tensor<2, Bool>>,
        mask_attn: Option<Tensor<3, Bool>>,
    ) -> Tensor<3> {
        let seen = if self.norm_first {
            self.norm_2.forward_nd(input.clone())
        } else {
            input.clone()
        };
        let attended = MhaInput {
            mask_pad,
            mask_attn,
            ..MhaInput::self_attn(seen)
        };
        let context = self.mha.forward(attended).context;
        let sum = input + self.dropout.forward(context);

        let normed = self.norm_1.forward_nd(sum.clone());
        let sum = if self.norm_first { sum } else { normed.clone() };
        let sum = sum + self.dropout.forward(self.pwff.forward(normed));
        if self.norm_first {
            sum
        } else {
            self.norm_2.forward_nd(sum)
        }
    }
}

/// Burn's `TransformerEncoder` with slots.
#[derive(Module, Adaptable, Debug)]
pub struct TransformerEncoder {
    /// The layers.
    pub layers: Vec<TransformerEncoderLayer>,
    /// The width of input and output.
    pub d_model: usize,
    /// The width of the feed-forward networks.
    pub d_ff: usize,
    /// The number of heads.
    pub n_heads: usize,
    /// The number of layers.
    pub n_layers: usize,
    /// The probability that a value is dropped.
    pub dropout: f64,
    /// Whether norms come before the parts.
    pub norm_first: bool,
    /// Whether a head may attend to nothing.
    pub quiet_softmax: bool,
}

/// The input of [`TransformerEncoder`], with the same constructors as Burn's
/// `TransformerEncoderInput`.
#[derive(Clone, Debug)]
pub struct TransformerEncoderInput {
    tensor: Tensor<3>,
    mask_pad: Option<Tensor<2, Bool>>,
    mask_attn: Option<Tensor<3, Bool>>,
}

impl TransformerEncoderInput {
    /// A batch of sequences, `[batch, seq, d_model]`.
    pub fn new(tensor: Tensor<3>) -> Self {
        Self {
            tensor,
            mask_pad: None,
            mask_attn: None,
        }
    }

    /// Hides the positions where the mask `[batch, seq]` is true.
    pub fn mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.mask_pad = Some(mask_pad);
        self
    }

    /// Hides positions from other positions where the mask `[batch, seq, seq]` is true.
    pub fn mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.mask_attn = Some(mask_attn);
        self
    }
}

impl From<transformer::TransformerEncoder> for TransformerEncoder {
    fn from(plain: transformer::TransformerEncoder) -> Self {
        Self {
            layers: plain.layers.into_iter().map(Into::into).collect(),
            d_model: plain.d_model,
            d_ff: plain.d_ff,
            n_heads: plain.n_heads,
            n_layers: plain.n_layers,
            dropout: plain.dropout,
            norm_first: plain.norm_first,
            quiet_softmax: plain.quiet_softmax,
        }
    }
}

impl TransformerEncoder {
    /// Maps `[batch, seq, d_model]` to the same shape.
    ///
    /// # Panics
    /// If the input is not `d_model` wide.
    pub fn forward(&self, input: TransformerEncoderInput) -> Tensor<3> {
        let (mask_pad, mask_attn) = (input.mask_pad, input.mask_attn);
        self.layers.iter().fold(input.tensor, |x, layer| {
            layer.forward(x, mask_pad.clone(), mask_attn.clone())
        })
    }
}
