//! Burn's attention with several heads.

use burn::module::Module;
use burn::nn::activation::Gelu;
use burn::nn::attention::{self, MhaOutput};
use burn::nn::{Dropout, Linear};
use burn::tensor::activation::{quiet_softmax, softmax};
use burn::tensor::{Bool, Tensor};

use crate::{Adaptable, LoraAdapter};

/// Burn's `MultiHeadAttention` with slots for `query`, `key`, `value` and `output`.
#[derive(Module, Adaptable, Debug)]
pub struct MultiHeadAttention {
    /// Computes the queries.
    pub query: LoraAdapter<Linear>,
    /// Computes the keys.
    pub key: LoraAdapter<Linear>,
    /// Computes the values.
    pub value: LoraAdapter<Linear>,
    /// Projects the concatenated results of the heads to the output.
    pub output: LoraAdapter<Linear>,
    /// Acts on the attention weights.
    pub dropout: Dropout,
    /// Burn's struct has it too, and does not use it.
    pub activation: Gelu,
    /// The width of inputs and output.
    pub d_model: usize,
    /// The number of heads.
    pub n_heads: usize,
    /// The width of a head.
    pub d_k: usize,
    /// The score of masked positions.
    pub min_float: f64,
    /// Whether a head may attend to nothing.
    pub quiet_softmax: bool,
}

/// The input of [`MultiHeadAttention`], with the same constructors as Burn's `MhaInput`.
#[derive(Clone, Debug)]
pub struct MhaInput {
    pub(super) query: Tensor<3>,
    pub(super) key: Tensor<3>,
    pub(super) value: Tensor<3>,
    pub(super) mask_pad: Option<Tensor<2, Bool>>,
    pub(super) mask_attn: Option<Tensor<3, Bool>>,
}

impl MhaInput {
    /// Queries, keys and values of one sequence, `[batch, seq, d_model]`.
    pub fn self_attn(tensor: Tensor<3>) -> Self {
        Self::new(tensor.clone(), tensor.clone(), tensor)
    }

    /// Queries `[batch, seq_1, d_model]`, keys and values `[batch, seq_2, d_model]`.
    pub fn new(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Self {
        Self {
            query,
            key,
            value,
            mask_pad: None,
            mask_attn: None,
        }
    }

    /// Hides the keys where the mask `[batch, seq_2]` is true.
    pub fn mask_pad(mut self, mask_pad: Tensor<2, Bool>) -> Self {
        self.mask_pad = Some(mask_pad);
        self
    }

    /// Hides keys from queries where the mask `[batch, seq_1, seq_2]` is true.
    pub fn mask_attn(mut self, mask_attn: Tensor<3, Bool>) -> Self {
        self.mask_attn = Some(mask_attn);
        self
    }
}

impl From<attention::MultiHeadAttention> for MultiHeadAttention {
    fn from(plain: attention::MultiHeadAttention) -> Self {
        Self {
            query: LoraAdapter::new(plain.query),
            key: LoraAdapter::new(plain.key),
            value: LoraAdapter::new(plain.value),
            output: LoraAdapter::new(plain.output),
            dropout: plain.dropout,
            activation: plain.activation,
            d_model: plain.d_model,
            n_heads: plain.n_heads,
            d_k: plain.d_k,
            min_float: plain.min_float,
            quiet_softmax: plain.quiet_softmax,
        }
    }
}

impl MultiHeadAttention {
    /// Returns the context `[batch, seq_1, d_model]` and the weights
    /// `[batch, n_heads, seq_1, seq_2]`.
    ///
    /// # Panics
    /// If an input is not `d_model` wide, or the inputs differ in batch size.
    pub fn forward(&self, input: MhaInput) -> MhaOutput {
        let [batch, seq, _] = input.query.dims();
        let query = self.heads(&self.query, input.query);
        let key = self.heads(&self.key, input.key);
        let value = self.heads(&self.value, input.value);

        let scores = query.matmul(key.transpose());
        let mut scores = scores.div_scalar((self.d_k as f32).sqrt());
        if let Some(mask) = input.mask_pad {
            let [batch, keys] = mask.dims();
            scores = scores.mask_fill(mask.reshape([batch, 1, 1, keys]), self.min_float);
        }
        if let Some(mask) = input.mask_attn {
            let [batch, queries, keys] = mask.dims();
            scores = scores.mask_fill(mask.reshape([batch, 1, queries, keys]), self.min_float);
        }
        let weights = if self.quiet_softmax {
            quiet_softmax(scores, 3)
        } else {
            softmax(scores, 3)
        };
        let weights = self.dropout.forward(weights);

        let context = weights.clone().matmul(value).swap_dims(1, 2);
        let context = context.reshape([batch, seq, self.d_model]);
        MhaOutput {
            weights,
            context: self.output.forward_nd(context),
        }
    }

    /// `[batch, n_heads, seq, d_k]`.
    fn heads(&self, linear: &LoraAdapter<Linear>, input: Tensor<3>) -> Tensor<4> {
        let [batch, seq, _] = input.dims();
        let output = linear.forward_nd(input);
        let heads = output.reshape([batch, seq, self.n_heads, self.d_k]);
        heads.swap_dims(1, 2)
    }
}
