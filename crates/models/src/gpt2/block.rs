//! One of GPT-2's blocks.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig};
use burn::tensor::activation::{gelu, gelu_approximate, relu};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, Conv1D, LoraAdapter, Tree};

use super::attention::{AttentionMask, GPT2Attention};
use crate::KvCache;
use crate::gpt2::config::{Activation, Gpt2Config};

/// Attention and feed-forward network, each after a norm and beside a residual connection
/// (transformers' `GPT2Block`).
#[derive(Module, Adaptable, Debug)]
pub struct GPT2Block {
    /// The norm before the attention.
    pub ln_1: LoraAdapter<LayerNorm>,
    /// The attention.
    pub attn: GPT2Attention,
    /// The norm before the feed-forward network.
    pub ln_2: LoraAdapter<LayerNorm>,
    /// The feed-forward network.
    pub mlp: GPT2MLP,
}

/// The feed-forward network (transformers' `GPT2MLP`).
#[derive(Module, Adaptable, Debug)]
pub struct GPT2MLP {
    /// From `d` to the inner size, `4 d` unless the configuration says otherwise.
    pub c_fc: LoraAdapter<Conv1D>,
    /// Back to `d`.
    pub c_proj: LoraAdapter<Conv1D>,
    #[module(skip)]
    #[adaptable(show)]
    act: Activation,
    /// Dropout of the output.
    pub dropout: Dropout,
}

pub(super) fn layer_norm(config: &Gpt2Config, device: &Device) -> LoraAdapter<LayerNorm> {
    let norm = LayerNormConfig::new(config.n_embd).with_epsilon(config.layer_norm_epsilon);
    LoraAdapter::new(norm.init(device))
}

impl GPT2Block {
    /// Block number `layer`, with random weights.
    pub fn new(config: &Gpt2Config, layer: usize, device: &Device) -> Self {
        Self {
            ln_1: layer_norm(config, device),
            attn: GPT2Attention::new(config, layer, device),
            ln_2: layer_norm(config, device),
            mlp: GPT2MLP::new(config, device),
        }
    }

    /// Maps `[batch * seq, d]` to the same shape.
    pub fn forward(
        &self,
        input: Tensor<2>,
        batch: usize,
        mask: &AttentionMask,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<2> {
        let normed = self.ln_1.forward(input.clone());
        let hidden = input + self.attn.forward(normed, batch, mask, cache);
        let normed = self.ln_2.forward(hidden.clone());
        hidden + self.mlp.forward(normed)
    }
}

impl GPT2MLP {
    /// The network with random weights.
    pub fn new(config: &Gpt2Config, device: &Device) -> Self {
        let (d, inner) = (config.n_embd, config.inner_size());
        Self {
            c_fc: LoraAdapter::new(Conv1D::new(d, inner, device)),
            c_proj: LoraAdapter::new(Conv1D::new(inner, d, device)),
            act: config.activation_function,
            dropout: DropoutConfig::new(config.resid_pdrop).init(),
        }
    }

    /// Maps `[tokens, d]` to the same shape.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let hidden = self.activate(self.c_fc.forward(input));
        self.dropout.forward(self.c_proj.forward(hidden))
    }

    /// The activation function, for any shape.
    pub fn activate(&self, hidden: Tensor<2>) -> Tensor<2> {
        match self.act {
            Activation::GeluNew | Activation::GeluPytorchTanh => gelu_approximate(hidden),
            Activation::Gelu => gelu(hidden),
            Activation::Relu => relu(hidden),
        }
    }
}

burn_peft::no_slots! {
    Activation => |this| Tree::Leaf(match this {
        Activation::GeluNew => "NewGELUActivation()",
        Activation::Gelu => "GELUActivation()",
        Activation::GeluPytorchTanh => "GELUTanh()",
        Activation::Relu => "ReLU()",
    }.to_string()),
}
