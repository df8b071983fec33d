//! DistilBERT.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, LayerNorm, LoraAdapter, Part, Path, Slot, Tree};
use burn_peft_kernels::{AttentionOptions, apply_dropout};

use crate::LayerCache;
use crate::decoder::{Decoder, DecoderBlock, Pass, Positions, changed_by_decoder, decoder_fields};
use crate::encoder::{Classifier, MaskedHead, padding_row, with_padding_row};
use crate::parts::{Activation, attend, two_layers};

mod config;

pub use config::DistilBertConfig;

/// DistilBERT with the head that predicts masked tokens (transformers' `DistilBertForMaskedLM`).
///
/// A classifier (`DistilBertForSequenceClassification`, `DistilBertForTokenClassification`) has
/// another head in its place, and a model without a head (`DistilBertModel`) has none.
#[derive(Module, Debug)]
pub struct DistilBertForMaskedLM {
    /// Everything but the head.
    pub distilbert: DistilBertModel,
    /// The head that predicts masked tokens.
    pub masked: Option<MaskedHead>,
    /// Its output, unless that is tied to the token embeddings.
    pub vocab_projector: Option<LoraAdapter<Linear>>,
    /// The head that scores labels.
    pub classifier: Option<Classifier>,
    #[module(skip)]
    config: DistilBertConfig,
}

/// Embeddings and blocks (transformers' `DistilBertModel`).
#[derive(Module, Adaptable, Debug)]
pub struct DistilBertModel {
    /// The embeddings.
    pub embeddings: Embeddings,
    /// The blocks.
    pub transformer: Transformer,
}

/// The embeddings of tokens and positions (transformers' `Embeddings`).
#[derive(Module, Adaptable, Debug)]
pub struct Embeddings {
    /// The token embeddings, `[vocab, d]`.
    pub word_embeddings: LoraAdapter<Embedding>,
    /// The position embeddings, `[max_position_embeddings, d]`.
    pub position_embeddings: LoraAdapter<Embedding>,
    /// The norm of their sum.
    #[adaptable(name = "LayerNorm")]
    pub layer_norm: LoraAdapter<LayerNorm>,
    /// Its dropout.
    pub dropout: Dropout,
}

/// The blocks (transformers' `Transformer`).
#[derive(Module, Adaptable, Debug)]
pub struct Transformer {
    /// The blocks, in order.
    pub layer: Vec<TransformerBlock>,
}

/// Attention and feed-forward network, each followed by a norm, with residual connections
/// (transformers' `TransformerBlock`).
#[derive(Module, Adaptable, Debug)]
pub struct TransformerBlock {
    /// The attention.
    pub attention: DistilBertSelfAttention,
    /// The norm after it.
    pub sa_layer_norm: LoraAdapter<LayerNorm>,
    /// The feed-forward network.
    pub ffn: FFN,
    /// The norm after it.
    pub output_layer_norm: LoraAdapter<LayerNorm>,
}

/// Self-attention in both directions (transformers' `DistilBertSelfAttention`).
#[derive(Module, Adaptable, Debug)]
pub struct DistilBertSelfAttention {
    /// What acts around the whole part.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// From `d` to the queries.
    pub q_lin: LoraAdapter<Linear>,
    /// From `d` to the keys.
    pub k_lin: LoraAdapter<Linear>,
    /// From `d` to the values.
    pub v_lin: LoraAdapter<Linear>,
    /// The output projection.
    pub out_lin: LoraAdapter<Linear>,
    /// Dropout of the attention weights.
    pub dropout: Dropout,
    #[module(skip)]
    heads: AttentionOptions,
}

/// The feed-forward network (transformers' `FFN`).
#[derive(Module, Adaptable, Debug)]
pub struct FFN {
    /// What acts around the whole part.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// Dropout of the output.
    pub dropout: Dropout,
    /// From `d` to the inner size.
    pub lin1: LoraAdapter<Linear>,
    /// From the inner size back to `d`.
    pub lin2: LoraAdapter<Linear>,
    /// The activation function.
    #[module(skip)]
    #[adaptable(show)]
    pub activation: Activation,
}

impl Adaptable for DistilBertForMaskedLM {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        let (name, base) = (self.config.base(), &self.distilbert);
        path.within(name, |path| base.visit_slots(path, &mut *visit));
        if let Some(head) = &self.masked {
            head.visit_slots(&self.vocab_projector, path, &mut *visit);
        }
        if let Some(head) = &self.classifier {
            head.visit_slots(path, visit);
        }
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        let (name, base) = (self.config.base(), &mut self.distilbert);
        path.within(name, |path| base.visit_slots_mut(path, &mut *visit));
        if let Some(head) = &mut self.masked {
            head.visit_slots_mut(&mut self.vocab_projector, path, &mut *visit);
        }
        if let Some(head) = &mut self.classifier {
            head.visit_slots_mut(path, visit);
        }
    }

    fn tree(&self) -> Tree {
        let config = &self.config;
        let padding = config.pad_token_id;
        let base = with_padding_row(self.distilbert.tree(), &["word_embeddings"], padding);
        if config.base().is_empty() {
            return base;
        }
        let mut children = vec![("distilbert", base)];
        if let Some(head) = &self.masked {
            children.insert(0, ("activation", config.activation.tree()));
            let output = head.shown_output(&self.vocab_projector, config.dim);
            children.extend([
                ("vocab_transform", head.dense.tree()),
                ("vocab_layer_norm", head.norm.tree()),
                ("vocab_projector", output),
                ("mlm_loss_fct", Tree::Leaf("CrossEntropyLoss()".into())),
            ]);
        }
        if let Some(head) = &self.classifier {
            let (dropout, output) = (head.dropout.tree(), head.output.tree());
            children.extend(match &head.dense {
                Some(dense) => vec![
                    ("pre_classifier", dense.tree()),
                    ("classifier", output),
                    ("dropout", dropout),
                ],
                None => vec![("dropout", dropout), ("classifier", output)],
            });
        }
        Tree::node(format!("DistilBert{}", config.class_of_head()), children)
    }

    fn model_type(&self) -> &str {
        "distilbert"
    }

    fn input_embedding(&self) -> &str {
        if self.config.base().is_empty() {
            "embeddings.word_embeddings"
        } else {
            "distilbert.embeddings.word_embeddings"
        }
    }

    fn output_embedding(&self) -> &str {
        if self.masked.is_some() {
            "vocab_projector"
        } else {
            ""
        }
    }

    changed_by_decoder!();
}

impl Decoder for DistilBertForMaskedLM {
    type Config = DistilBertConfig;
    type Block = TransformerBlock;

    fn new(config: &DistilBertConfig, device: &Device) -> Self {
        let head = &config.head;
        let is_masked = head.predicts_tokens();
        let (d, vocab) = (config.dim, config.vocab_size);
        let is_tied = config.tie_word_embeddings;
        let blocks = (0..config.n_layers).map(|_| TransformerBlock::new(config, device));
        Self {
            distilbert: DistilBertModel {
                embeddings: Embeddings {
                    word_embeddings: config.embedding(vocab, device),
                    position_embeddings: config.embedding(config.max_position_embeddings, device),
                    layer_norm: config.norm(device),
                    dropout: DropoutConfig::new(config.dropout).init(),
                },
                transformer: Transformer {
                    layer: blocks.collect(),
                },
            },
            masked: is_masked.then(|| {
                let (names, epsilon) = (config::MASKED, config::EPSILON);
                let activation = config.activation;
                MaskedHead::new(names, [d, vocab], activation, epsilon, is_tied, device)
            }),
            vocab_projector: (is_masked && !is_tied).then(|| config.linear(d, vocab, device)),
            classifier: head.classifies().then(|| {
                let (names, dropout) = (config.classifier(), config.head_dropout());
                Classifier::new(names, [d, head.num_labels()], dropout, device)
            }),
            config: config.clone(),
        }
    }

    decoder_fields!(distilbert.embeddings.word_embeddings, vocab_projector);

    fn is_causal(&self) -> bool {
        false
    }

    fn blocks(&self) -> &[TransformerBlock] {
        &self.distilbert.transformer.layer
    }

    fn add_positions(&self, embedded: Tensor<2>, positions: Positions) -> Tensor<2> {
        positions.add(embedded, &self.distilbert.embeddings.position_embeddings, 0)
    }

    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        let Embeddings {
            layer_norm,
            dropout,
            ..
        } = &self.distilbert.embeddings;
        apply_dropout(dropout, layer_norm.forward(embedded))
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match (&self.classifier, &self.masked) {
            (Some(head), _) => head.forward(hidden),
            (None, Some(head)) => head.logits(hidden, self.embedding(), &self.vocab_projector),
            (None, None) => hidden,
        }
    }

    fn masked_head_mut(&mut self) -> Option<&mut MaskedHead> {
        self.masked.as_mut()
    }

    fn empty_row(config: &DistilBertConfig, name: &str) -> Option<usize> {
        let is_padded = name.ends_with("embeddings.word_embeddings.weight");
        padding_row(config.pad_token_id.filter(|_| is_padded))
    }
}

impl TransformerBlock {
    fn new(config: &DistilBertConfig, device: &Device) -> Self {
        let (d, heads) = (config.dim, config.n_heads);
        let layer = |d_in, d_out| config.linear(d_in, d_out, device);
        Self {
            attention: DistilBertSelfAttention {
                around: LoraAdapter::new(Part::new(d, device)),
                q_lin: layer(d, d),
                k_lin: layer(d, d),
                v_lin: layer(d, d),
                out_lin: layer(d, d),
                dropout: DropoutConfig::new(config.attention_dropout).init(),
                heads: AttentionOptions::new(heads, heads, d / heads).with_causal(false),
            },
            sa_layer_norm: config.norm(device),
            ffn: FFN {
                around: LoraAdapter::new(Part::new(d, device)),
                dropout: DropoutConfig::new(config.dropout).init(),
                lin1: layer(d, config.hidden_dim),
                lin2: layer(config.hidden_dim, d),
                activation: config.activation,
            },
            output_layer_norm: config.norm(device),
        }
    }
}

impl DecoderBlock for TransformerBlock {
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let sum = self.attention.forward(input, pass, cache);
        let hidden = self.sa_layer_norm.forward(sum);
        self.output_layer_norm.forward(self.ffn.forward(hidden))
    }
}

impl DistilBertSelfAttention {
    /// The attention's output for `input`, `[batch * seq, d]`, and `input` itself.
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let Pass { batch, mask, .. } = pass;
        let residual = Some(input.clone());
        self.around
            .forward_around(input, residual, |input, residual| {
                let layers = [&self.q_lin, &self.k_lin, &self.v_lin];
                let qkv = LoraAdapter::forward_together(layers, input);
                let output = attend(qkv, self.heads, *batch, mask, &self.dropout, cache);
                self.out_lin.forward_onto(output, residual)
            })
    }
}

impl FFN {
    /// The network's output for `input`, `[tokens, d]`, and `input` itself.
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let residual = Some(input.clone());
        self.around
            .forward_around(input, residual, |input, residual| {
                let layers = [&self.lin1, &self.lin2];
                two_layers(layers, self.activation, &self.dropout, input, residual)
            })
    }
}
