//! The parts of BERT, RoBERTa and XLM-RoBERTa, which differ only in their printed names.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, LayerNorm, LoraAdapter, Tree, no_slots};
use burn_peft_kernels::{AttentionOptions, apply_dropout};

use super::BertConfig;
use crate::LayerCache;
use crate::decoder::{DecoderBlock, Pass};
use crate::parts::{Activation, attend, project_onto, two_layers};

/// Embeddings, blocks and pooler (transformers' `BertModel`).
#[derive(Module, Adaptable, Debug)]
pub struct BertModel {
    /// The embeddings.
    pub embeddings: BertEmbeddings,
    /// The blocks.
    pub encoder: BertEncoder,
    /// Turns the first token's hidden state into the vector of a text, if it is needed.
    pub pooler: Option<BertPooler>,
}

/// The embeddings of tokens, positions and the texts of a pair (transformers' `BertEmbeddings`).
#[derive(Module, Adaptable, Debug)]
pub struct BertEmbeddings {
    /// The token embeddings, `[vocab, d]`.
    pub word_embeddings: LoraAdapter<Embedding>,
    /// The position embeddings, `[max_position_embeddings, d]`.
    pub position_embeddings: LoraAdapter<Embedding>,
    /// The embeddings of the first and second text of a pair, `[type_vocab_size, d]`.
    pub token_type_embeddings: LoraAdapter<Embedding>,
    /// The norm of their sum.
    #[adaptable(name = "LayerNorm")]
    pub layer_norm: LoraAdapter<LayerNorm>,
    /// Its dropout.
    pub dropout: Dropout,
}

/// The blocks (transformers' `BertEncoder`).
#[derive(Module, Adaptable, Debug)]
pub struct BertEncoder {
    /// The blocks, in order.
    pub layer: Vec<BertLayer>,
}

/// Attention and feed-forward network, each followed by a norm, with residual connections
/// (transformers' `BertLayer`).
#[derive(Module, Adaptable, Debug)]
pub struct BertLayer {
    /// The attention.
    pub attention: BertAttention,
    /// The first layer of the feed-forward network.
    pub intermediate: BertIntermediate,
    /// The second.
    pub output: BertOutput,
}

/// Attention with its output and norm (transformers' `BertAttention`).
#[derive(Module, Adaptable, Debug)]
pub struct BertAttention {
    /// The attention itself.
    #[adaptable(name = "self")]
    pub heads: BertSelfAttention,
    /// The output projection with its norm.
    pub output: BertSelfOutput,
}

/// Self-attention in both directions (transformers' `BertSelfAttention`).
#[derive(Module, Adaptable, Debug)]
pub struct BertSelfAttention {
    /// From `d` to the queries.
    pub query: LoraAdapter<Linear>,
    /// From `d` to the keys.
    pub key: LoraAdapter<Linear>,
    /// From `d` to the values.
    pub value: LoraAdapter<Linear>,
    /// Dropout of the attention weights.
    pub dropout: Dropout,
    #[module(skip)]
    options: AttentionOptions,
}

/// The output projection of attention (transformers' `BertSelfOutput`).
#[derive(Module, Adaptable, Debug)]
pub struct BertSelfOutput {
    /// The projection.
    pub dense: LoraAdapter<Linear>,
    /// The norm of its sum with the residual.
    #[adaptable(name = "LayerNorm")]
    pub layer_norm: LoraAdapter<LayerNorm>,
    /// Dropout of the projection.
    pub dropout: Dropout,
}

/// The first layer of the feed-forward network (transformers' `BertIntermediate`).
#[derive(Module, Adaptable, Debug)]
pub struct BertIntermediate {
    /// From `d` to the inner size.
    pub dense: LoraAdapter<Linear>,
    /// The activation function.
    #[module(skip)]
    #[adaptable(show)]
    pub intermediate_act_fn: Activation,
}

/// The second layer of the feed-forward network (transformers' `BertOutput`).
#[derive(Module, Adaptable, Debug)]
pub struct BertOutput {
    /// From the inner size back to `d`.
    pub dense: LoraAdapter<Linear>,
    /// The norm of its sum with the residual.
    #[adaptable(name = "LayerNorm")]
    pub layer_norm: LoraAdapter<LayerNorm>,
    /// Dropout of the layer.
    pub dropout: Dropout,
}

/// Turns the first token's hidden state into the vector of a text (transformers' `BertPooler`).
#[derive(Module, Adaptable, Debug)]
pub struct BertPooler {
    /// `[d, d]`.
    pub dense: LoraAdapter<Linear>,
    /// The activation function.
    #[module(skip)]
    #[adaptable(show)]
    pub activation: Tanh,
}

/// The hyperbolic tangent, for printing.
#[derive(Clone, Copy, Debug)]
pub struct Tanh;

no_slots! {
    Tanh => |_this| Tree::Leaf("Tanh()".into()),
}

impl BertModel {
    pub(super) fn new(config: &BertConfig, device: &Device) -> Self {
        let blocks = (0..config.num_hidden_layers).map(|_| BertLayer::new(config, device));
        Self {
            embeddings: BertEmbeddings::new(config, device),
            encoder: BertEncoder {
                layer: blocks.collect(),
            },
            pooler: config.has_pooler().then(|| BertPooler {
                dense: config.linear(config.hidden_size, config.hidden_size, device),
                activation: Tanh,
            }),
        }
    }
}

impl BertEmbeddings {
    fn new(config: &BertConfig, device: &Device) -> Self {
        Self {
            word_embeddings: config.embedding(config.vocab_size, device),
            position_embeddings: config.embedding(config.max_position_embeddings, device),
            token_type_embeddings: config.embedding(config.type_vocab_size, device),
            layer_norm: config.norm(device),
            dropout: config.dropout(),
        }
    }

    /// The input of the first block, from the sum of the embeddings, `[tokens, d]`.
    pub(super) fn finish(&self, sum: Tensor<2>) -> Tensor<2> {
        apply_dropout(&self.dropout, self.layer_norm.forward(sum))
    }
}

impl BertLayer {
    fn new(config: &BertConfig, device: &Device) -> Self {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let heads = config.num_attention_heads;
        Self {
            attention: BertAttention {
                heads: BertSelfAttention {
                    query: config.linear(d, d, device),
                    key: config.linear(d, d, device),
                    value: config.linear(d, d, device),
                    dropout: DropoutConfig::new(config.attention_probs_dropout_prob).init(),
                    options: AttentionOptions::new(heads, heads, d / heads).with_causal(false),
                },
                output: BertSelfOutput {
                    dense: config.linear(d, d, device),
                    layer_norm: config.norm(device),
                    dropout: config.dropout(),
                },
            },
            intermediate: BertIntermediate {
                dense: config.linear(d, inner, device),
                intermediate_act_fn: config.hidden_act,
            },
            output: BertOutput {
                dense: config.linear(inner, d, device),
                layer_norm: config.norm(device),
                dropout: config.dropout(),
            },
        }
    }
}

impl DecoderBlock for BertLayer {
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let hidden = self.attention.forward(input, pass, cache);
        let BertOutput {
            dense,
            layer_norm,
            dropout,
        } = &self.output;
        let layers = [&self.intermediate.dense, dense];
        let activation = self.intermediate.intermediate_act_fn;
        let residual = Some(hidden.clone());
        layer_norm.forward(two_layers(layers, activation, dropout, hidden, residual))
    }
}

impl BertAttention {
    /// Maps `[batch * seq, d]` to the same shape.
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let heads = &self.heads;
        let layers = [&heads.query, &heads.key, &heads.value];
        let qkv = LoraAdapter::forward_together(layers, input.clone());
        let Pass { batch, mask, .. } = pass;
        let output = attend(qkv, heads.options, *batch, mask, &heads.dropout, cache);
        let BertSelfOutput {
            dense,
            layer_norm,
            dropout,
        } = &self.output;
        layer_norm.forward(project_onto(dense, output, dropout, Some(input)))
    }
}
