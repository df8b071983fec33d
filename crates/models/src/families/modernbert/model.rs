//! The parts of ModernBERT.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, LayerNorm, LoraAdapter, Part, Path, Slot, Tree, no_slots};
use burn_peft_kernels::{
    AttentionOptions, FeedForward, Pairing, apply_dropout, dropout_probability, feed_forward,
    packed_glu, rope,
};

use super::ModernBertConfig;
use crate::LayerCache;
use crate::decoder::{DecoderBlock, Pass};
use crate::parts::{Activation, attend, project_onto, unadapted};

/// Embeddings, blocks and the last norm (transformers' `ModernBertModel`).
#[derive(Module, Adaptable, Debug)]
pub struct ModernBertModel {
    /// The embeddings.
    pub embeddings: ModernBertEmbeddings,
    /// The blocks.
    pub layers: Vec<ModernBertEncoderLayer>,
    /// The last norm.
    pub final_norm: LoraAdapter<LayerNorm>,
    /// The rotation of queries and keys.
    #[module(skip)]
    #[adaptable(show)]
    pub rotary_emb: ModernBertRotaryEmbedding,
}

/// The rotary embedding, for printing.
#[derive(Clone, Copy, Debug)]
pub struct ModernBertRotaryEmbedding;

no_slots! {
    ModernBertRotaryEmbedding => |_this| Tree::Leaf("ModernBertRotaryEmbedding()".into()),
}

/// The embeddings of tokens (transformers' `ModernBertEmbeddings`).
#[derive(Module, Adaptable, Debug)]
pub struct ModernBertEmbeddings {
    /// The token embeddings, `[vocab, d]`.
    pub tok_embeddings: LoraAdapter<Embedding>,
    /// Their norm.
    pub norm: LoraAdapter<LayerNorm>,
    /// Its dropout.
    pub drop: Dropout,
}

/// Attention and feed-forward network, each preceded by a norm, with residual connections
/// (transformers' `ModernBertEncoderLayer`).
#[derive(Module, Adaptable, Debug)]
pub struct ModernBertEncoderLayer {
    /// The norm before the attention; the first block has none.
    pub attn_norm: OrIdentity<LoraAdapter<LayerNorm>>,
    /// The attention.
    pub attn: ModernBertAttention,
    /// The norm before the feed-forward network.
    pub mlp_norm: LoraAdapter<LayerNorm>,
    /// The feed-forward network.
    pub mlp: ModernBertMLP,
}

/// Self-attention in both directions, over the whole text or a window, with one product for query,
/// key and value (transformers' `ModernBertAttention`).
#[derive(Module, Adaptable, Debug)]
pub struct ModernBertAttention {
    /// What acts around the whole part.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// From `d` to query, key and value, `3 d`.
    #[adaptable(name = "Wqkv")]
    pub wqkv: LoraAdapter<Linear>,
    /// The output projection.
    #[adaptable(name = "Wo")]
    pub wo: LoraAdapter<Linear>,
    /// Dropout of the output.
    pub out_drop: OrIdentity<Dropout>,
    /// Dropout of the attention weights.
    #[adaptable(skip)]
    pub weights_dropout: Dropout,
    #[module(skip)]
    heads: AttentionOptions,
}

/// The feed-forward network, gated (transformers' `ModernBertMLP`).
#[derive(Module, Adaptable, Debug)]
pub struct ModernBertMLP {
    /// What acts around the whole part.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// From `d` to the input of the activation and its factor, side by side.
    #[adaptable(name = "Wi")]
    pub wi: LoraAdapter<Linear>,
    /// The activation function.
    #[module(skip)]
    #[adaptable(show)]
    pub act: Activation,
    /// Dropout of the product.
    pub drop: Dropout,
    /// From the inner size back to `d`.
    #[adaptable(name = "Wo")]
    pub wo: LoraAdapter<Linear>,
}

/// A module that some blocks lack, for which PyTorch prints an `Identity`.
#[derive(Module, Debug)]
pub struct OrIdentity<M: Module> {
    /// The module.
    pub inner: Option<M>,
}

impl<M: Module + Adaptable> Adaptable for OrIdentity<M> {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        self.inner.visit_slots(path, visit);
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        self.inner.visit_slots_mut(path, visit);
    }

    fn tree(&self) -> Tree {
        match &self.inner {
            Some(inner) => inner.tree(),
            None => Tree::Leaf("Identity()".into()),
        }
    }
}

impl ModernBertModel {
    pub(super) fn new(config: &ModernBertConfig, device: &Device) -> Self {
        let layer = |layer| ModernBertEncoderLayer::new(config, layer, device);
        Self {
            embeddings: ModernBertEmbeddings {
                tok_embeddings: config.embedding(device),
                norm: config.norm(device),
                drop: DropoutConfig::new(config.embedding_dropout).init(),
            },
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            final_norm: config.norm(device),
            rotary_emb: ModernBertRotaryEmbedding,
        }
    }
}

impl ModernBertEmbeddings {
    /// The input of the first block, from the embeddings of tokens, `[tokens, d]`.
    pub(super) fn finish(&self, embedded: Tensor<2>) -> Tensor<2> {
        apply_dropout(&self.drop, self.norm.forward(embedded))
    }
}

impl ModernBertEncoderLayer {
    fn new(config: &ModernBertConfig, layer: usize, device: &Device) -> Self {
        Self {
            attn_norm: OrIdentity {
                inner: (layer > 0).then(|| config.norm(device)),
            },
            attn: ModernBertAttention::new(config, layer, device),
            mlp_norm: config.norm(device),
            mlp: ModernBertMLP::new(config, device),
        }
    }
}

impl DecoderBlock for ModernBertEncoderLayer {
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let normed = match &self.attn_norm.inner {
            Some(norm) => norm.forward(input.clone()),
            None => input.clone(),
        };
        let hidden = self.attn.forward(normed, input, pass, cache);
        let normed = self.mlp_norm.forward(hidden.clone());
        self.mlp.forward(normed, hidden)
    }
}

impl ModernBertAttention {
    fn new(config: &ModernBertConfig, layer: usize, device: &Device) -> Self {
        let (d, heads) = (config.hidden_size, config.num_attention_heads);
        let dropout = || DropoutConfig::new(config.attention_dropout).init();
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            wqkv: config.linear([d, 3 * d], config.attention_bias, device),
            wo: config.linear([d, d], config.attention_bias, device),
            out_drop: OrIdentity {
                inner: (config.attention_dropout > 0.0).then(dropout),
            },
            weights_dropout: dropout(),
            heads: AttentionOptions {
                window: config.window(layer),
                ..AttentionOptions::new(heads, heads, d / heads).with_causal(false)
            },
        }
    }

    /// Maps `input` to the same shape, `[batch * seq, d]`, and adds it to `residual`.
    fn forward(
        &self,
        input: Tensor<2>,
        residual: Tensor<2>,
        pass: &Pass,
        cache: LayerCache<'_>,
    ) -> Tensor<2> {
        let Pass { batch, mask, .. } = pass;
        let table = &pass.ropes[usize::from(self.heads.window.is_some())];
        self.around
            .forward_around(input, Some(residual), |input, residual| {
                let [query, key, value] = self.project(input);
                let turned = |part| {
                    let (cos, sin) = (table.cos.clone(), table.sin.clone());
                    rope(part, cos, sin, self.heads.heads, Pairing::Halves)
                };
                let qkv = [turned(query), turned(key), value];
                let output = attend(qkv, self.heads, *batch, mask, &self.weights_dropout, cache);
                match &self.out_drop.inner {
                    Some(dropout) => project_onto(&self.wo, output, dropout, residual),
                    None => self.wo.forward_onto(output, residual),
                }
            })
    }

    /// Query, key and value, `[tokens, d]` each.
    fn project(&self, input: Tensor<2>) -> [Tensor<2>; 3] {
        let qkv = self.wqkv.forward(input);
        let [_, width] = qkv.dims();
        let d = width / 3;
        [0, 1, 2].map(|part| qkv.clone().slice_dim(1, part * d..(part + 1) * d))
    }
}

impl ModernBertMLP {
    fn new(config: &ModernBertConfig, device: &Device) -> Self {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            wi: config.linear([d, 2 * inner], config.mlp_bias, device),
            act: config.hidden_activation,
            drop: DropoutConfig::new(config.mlp_dropout).init(),
            wo: config.linear([inner, d], config.mlp_bias, device),
        }
    }

    /// Maps `input` to the same shape, `[tokens, d]`, and adds it to `residual`.
    fn forward(&self, input: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        self.around
            .forward_around(input, Some(residual), |input, residual| {
                if let Some(network) = self.in_one(&input) {
                    return feed_forward(input, network, residual);
                }
                let next = self.wo.input_dtype();
                let inner = packed_glu(self.wi.forward(input), self.act.kind(), next);
                self.wo
                    .forward_onto(apply_dropout(&self.drop, inner), residual)
            })
    }

    /// Both layers, if a single operation can compute them.
    fn in_one(&self, input: &Tensor<2>) -> Option<FeedForward> {
        let [gate, up] = unadapted(&self.wi)?.halves()?;
        let drops = dropout_probability(&self.drop, input) != 0.0;
        let down = unadapted(&self.wo)?;
        (!drops).then(|| FeedForward {
            gate: Some(gate),
            up,
            down,
            activation: self.act.kind(),
        })
    }
}
