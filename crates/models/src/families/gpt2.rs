//! GPT-2.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::config::TaskType;
use burn_peft::{Adaptable, Conv1D, LayerNorm, LoraAdapter, Part, Path, Slot, Tree};
use burn_peft_kernels::{AttentionOptions, apply_dropout};

use crate::LayerCache;
use crate::decoder::{Decoder, DecoderBlock, Pass, Positions, changed_by_decoder, decoder_fields};
use crate::heads::head_dropout;
use crate::parts::{Activation, attend, project_onto, random_embedding, random_linear, two_layers};

mod config;

pub use config::Gpt2Config;

/// GPT-2 with its language-model head (transformers' `GPT2LMHeadModel`).
///
/// A classifier's head (`GPT2ForSequenceClassification`, `GPT2ForTokenClassification`) takes its
/// place under another name.
#[derive(Module, Debug)]
pub struct GPT2LMHeadModel {
    /// Everything but the head.
    pub transformer: GPT2Model,
    /// Dropout before the head of a token classifier.
    pub dropout: Option<Dropout>,
    /// The head, unless it is tied to `transformer.wte`.
    pub lm_head: Option<LoraAdapter<Linear>>,
    #[module(skip)]
    config: Gpt2Config,
}

/// Embeddings, blocks and the last norm (transformers' `GPT2Model`).
#[derive(Module, Adaptable, Debug)]
pub struct GPT2Model {
    /// The token embeddings, `[vocab, d]`.
    pub wte: LoraAdapter<Embedding>,
    /// The position embeddings, `[n_positions, d]`.
    pub wpe: LoraAdapter<Embedding>,
    /// Dropout of the embeddings.
    pub drop: Dropout,
    /// The blocks.
    pub h: Vec<GPT2Block>,
    /// The last norm.
    pub ln_f: LoraAdapter<LayerNorm>,
}

/// Attention and feed-forward network, each preceded by a norm, with residual connections
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

/// Causal self-attention with one product for query, key and value (transformers'
/// `GPT2Attention`).
#[derive(Module, Adaptable, Debug)]
pub struct GPT2Attention {
    /// What acts around the whole part.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// From `d` to query, key and value, `3 d`.
    pub c_attn: LoraAdapter<Conv1D>,
    /// The output projection.
    pub c_proj: LoraAdapter<Conv1D>,
    /// Dropout of the attention weights.
    pub attn_dropout: Dropout,
    /// Dropout of the output.
    pub resid_dropout: Dropout,
    /// The number of heads.
    #[module(skip)]
    pub heads: AttentionOptions,
}

/// The feed-forward network (transformers' `GPT2MLP`).
#[derive(Module, Adaptable, Debug)]
pub struct GPT2MLP {
    /// What acts around the whole part.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// From `d` to the inner size, `4 d` unless the configuration says otherwise.
    pub c_fc: LoraAdapter<Conv1D>,
    /// From the inner size back to `d`.
    pub c_proj: LoraAdapter<Conv1D>,
    /// The activation function.
    #[module(skip)]
    #[adaptable(show)]
    pub act: Activation,
    /// Dropout of the output.
    pub dropout: Dropout,
}

impl GPT2LMHeadModel {
    /// The name of the head.
    fn head_name(&self) -> &'static str {
        match self.config.head.task {
            TaskType::SeqCls => "score",
            TaskType::TokenCls => "classifier",
            _ => "lm_head",
        }
    }
}

impl Adaptable for GPT2LMHeadModel {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        let base = &self.transformer;
        if self.config.head.is_none() {
            return base.visit_slots(path, visit);
        }
        path.within("transformer", |path| base.visit_slots(path, &mut *visit));
        path.within(self.head_name(), |path| {
            self.lm_head.visit_slots(path, visit);
        });
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        let head = self.head_name();
        let base = &mut self.transformer;
        if self.config.head.is_none() {
            return base.visit_slots_mut(path, visit);
        }
        path.within("transformer", |path| {
            base.visit_slots_mut(path, &mut *visit);
        });
        path.within(head, |path| self.lm_head.visit_slots_mut(path, visit));
    }

    fn tree(&self) -> Tree {
        if self.config.head.is_none() {
            return self.transformer.tree();
        }
        let class = self.config.head.class().unwrap_or("LMHeadModel");
        let children = [
            ("transformer", self.transformer.tree()),
            (
                "dropout",
                self.dropout.as_ref().map_or(Tree::Empty, Adaptable::tree),
            ),
            (self.head_name(), self.lm_head.tree()),
        ];
        Tree::node(format!("GPT2{class}"), children)
    }

    fn model_type(&self) -> &str {
        "gpt2"
    }

    fn input_embedding(&self) -> &str {
        if self.config.head.is_none() {
            "wte"
        } else {
            "transformer.wte"
        }
    }

    fn output_embedding(&self) -> &str {
        if self.config.head.predicts_tokens() {
            "lm_head"
        } else {
            ""
        }
    }

    changed_by_decoder!();
}

impl Decoder for GPT2LMHeadModel {
    type Config = Gpt2Config;
    type Block = GPT2Block;

    fn new(config: &Gpt2Config, device: &Device) -> Self {
        let (d, std) = (config.n_embd, config.initializer_range);
        let embedding = |rows| random_embedding([rows, d], std, device);
        let task = &config.head;
        let outputs = if task.classifies() {
            task.num_labels()
        } else {
            config.vocab_size
        };
        let has_head = !task.is_none() && (task.classifies() || !config.tie_word_embeddings);
        let has_bias = task.task == TaskType::TokenCls;
        let blocks = (0..config.n_layer).map(|layer| GPT2Block::new(config, layer, device));
        Self {
            transformer: GPT2Model {
                wte: embedding(config.vocab_size),
                wpe: embedding(config.n_positions),
                drop: DropoutConfig::new(config.embd_pdrop).init(),
                h: blocks.collect(),
                ln_f: layer_norm(config, device),
            },
            dropout: head_dropout(config.head.task, &config.extra),
            lm_head: has_head.then(|| random_linear([d, outputs], has_bias, std, device)),
            config: config.clone(),
        }
    }

    decoder_fields!(transformer.wte, lm_head);

    fn head_dropout(&self) -> &Option<Dropout> {
        &self.dropout
    }

    fn blocks(&self) -> &[GPT2Block] {
        &self.transformer.h
    }

    fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.transformer.ln_f.forward(hidden)
    }

    fn add_positions(&self, embedded: Tensor<2>, positions: Positions) -> Tensor<2> {
        positions.add(embedded, &self.transformer.wpe, 0)
    }

    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        apply_dropout(&self.transformer.drop, embedded)
    }

    /// The projections back onto the residual get smaller initial weights the deeper the model.
    fn initial_std(config: &Gpt2Config, name: &str) -> f64 {
        if name.ends_with("c_proj.weight") {
            config.initializer_range / (2.0 * config.n_layer as f64).sqrt()
        } else {
            config.initializer_range
        }
    }
}

fn layer_norm(config: &Gpt2Config, device: &Device) -> LoraAdapter<LayerNorm> {
    let norm = LayerNorm::new(config.n_embd, config.layer_norm_epsilon, device);
    LoraAdapter::new(norm)
}

impl GPT2Block {
    fn new(config: &Gpt2Config, layer: usize, device: &Device) -> Self {
        Self {
            ln_1: layer_norm(config, device),
            attn: GPT2Attention::new(config, layer, device),
            ln_2: layer_norm(config, device),
            mlp: GPT2MLP::new(config, device),
        }
    }
}

impl DecoderBlock for GPT2Block {
    fn forward(&self, input: Tensor<2>, pass: &Pass, cache: LayerCache<'_>) -> Tensor<2> {
        let normed = self.ln_1.forward(input.clone());
        let hidden = self.attn.forward(normed, input, pass, cache);
        let normed = self.ln_2.forward(hidden.clone());
        self.mlp.forward(normed, hidden)
    }
}

impl GPT2Attention {
    fn new(config: &Gpt2Config, layer: usize, device: &Device) -> Self {
        let d = config.n_embd;
        let mut scale = 1.0;
        if config.scale_attn_weights {
            scale /= ((d / config.n_head) as f64).sqrt();
        }
        if config.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f64;
        }
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            c_attn: LoraAdapter::new(Conv1D::new(d, 3 * d, device)),
            c_proj: LoraAdapter::new(Conv1D::new(d, d, device)),
            attn_dropout: DropoutConfig::new(config.attn_pdrop).init(),
            resid_dropout: DropoutConfig::new(config.resid_pdrop).init(),
            heads: AttentionOptions {
                scale,
                ..AttentionOptions::new(config.n_head, config.n_head, d / config.n_head)
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
        self.around
            .forward_around(input, Some(residual), |input, residual| {
                let qkv = self.c_attn.forward(input);
                let output = attend(qkv, self.heads, *batch, mask, &self.attn_dropout, cache);
                project_onto(&self.c_proj, output, &self.resid_dropout, residual)
            })
    }
}

impl GPT2MLP {
    fn new(config: &Gpt2Config, device: &Device) -> Self {
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
    fn forward(&self, input: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        self.around
            .forward_around(input, Some(residual), |input, residual| {
                let layers = [&self.c_fc, &self.c_proj];
                two_layers(layers, self.act, &self.dropout, input, residual)
            })
    }
}
