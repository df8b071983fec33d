//! One of GPT-2's blocks.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, BaseLayer, Conv1D, LayerNorm, LoraAdapter, Part, Tree};
use burn_peft_kernels::{FeedForward, dropout_probability, feed_forward, gelu_approximate};

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
    /// What acts around all of it.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
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

/// `residual + dropout(layer(input))`, in one operation where nothing is dropped; without a
/// residual, no more than the layer and its dropout.
pub(super) fn project_onto(
    layer: &LoraAdapter<Conv1D>,
    input: Tensor<2>,
    dropout: &Dropout,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    match (dropout_probability(dropout, &input), residual) {
        (0.0, residual) => layer.forward_onto(input, residual),
        (probability, None) => burn_peft_kernels::dropout(layer.forward(input), probability),
        (probability, Some(residual)) => {
            residual + burn_peft_kernels::dropout(layer.forward(input), probability)
        }
    }
}

pub(super) fn layer_norm(config: &Gpt2Config, device: &Device) -> LoraAdapter<LayerNorm> {
    LoraAdapter::new(LayerNorm::new(
        config.n_embd,
        config.layer_norm_epsilon,
        device,
    ))
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
        let hidden = self.attn.forward(normed, input, batch, mask, cache);
        let normed = self.ln_2.forward(hidden.clone());
        self.mlp.forward(normed, hidden)
    }
}

impl GPT2MLP {
    /// The network with random weights.
    pub fn new(config: &Gpt2Config, device: &Device) -> Self {
        let (d, inner) = (config.n_embd, config.inner_size());
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            c_fc: LoraAdapter::new(Conv1D::new(d, inner, device)),
            c_proj: LoraAdapter::new(Conv1D::new(inner, d, device)),
            act: config.activation_function,
            dropout: DropoutConfig::new(config.resid_pdrop).init(),
        }
    }

    /// Maps `input` to the same shape, `[tokens, d]`, and adds it to `residual`.
    pub fn forward(&self, input: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        self.around
            .forward_around(input, residual, |input, residual| {
                if let Some(network) = self.in_one(&input) {
                    return feed_forward(input, network, residual);
                }
                let hidden = self.activate(self.c_fc.forward(input));
                project_onto(&self.c_proj, hidden, &self.dropout, residual)
            })
    }

    /// Both layers, where one operation does what they do.
    fn in_one(&self, input: &Tensor<2>) -> Option<FeedForward> {
        let gelu = [Activation::GeluNew, Activation::GeluPytorchTanh].contains(&self.act);
        let (up, down) = (self.c_fc.unadapted()?, self.c_proj.unadapted()?);
        (gelu && dropout_probability(&self.dropout, input) == 0.0).then(|| FeedForward {
            up: up.stored_weight(),
            up_bias: up.bias(),
            down: down.stored_weight(),
            down_bias: down.bias(),
        })
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
