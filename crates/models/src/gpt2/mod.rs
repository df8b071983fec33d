//! GPT-2, with fields called as in its checkpoints: a module's path is its Hugging Face name.

mod attention;
mod block;
pub mod config;
mod files;
mod init;

pub use attention::{AttentionMask, GPT2Attention};
pub use block::{GPT2Block, GPT2MLP};
pub use config::Gpt2Config;
pub use init::init_gpt2;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear};
use burn::nn::{Initializer, LinearConfig};
use burn::tensor::{Device, FloatDType, Int, Tensor};
use burn_peft::{Adaptable, LayerNorm, LoraAdapter, ModelInfo, Slot};
use burn_peft_kernels::{dropout, dropout_probability, vocabulary_loss};

use crate::checkpointing::{self, Chain};
use crate::loss::cross_entropy_sum_of;
use crate::{CausalLm, Checkpointed, KvCache, LmBatch, ModelInput};

/// GPT-2 with its language-model head (transformers' `GPT2LMHeadModel`).
#[derive(Module, Adaptable, Debug)]
#[adaptable(model_type = "gpt2", input = "transformer.wte", output = "lm_head")]
#[adaptable(model_info = "openings", untie = "untie", resize = "resize")]
pub struct GPT2LMHeadModel {
    /// Everything but the head.
    pub transformer: GPT2Model,
    /// The head, where it is not tied to `transformer.wte`.
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

impl GPT2Model {
    /// The model with random weights.
    pub fn new(config: &Gpt2Config, device: &Device) -> Self {
        let initializer = Initializer::Normal {
            mean: 0.0,
            std: config.initializer_range,
        };
        let embedding = |rows| {
            let layer = EmbeddingConfig::new(rows, config.n_embd);
            LoraAdapter::new(layer.with_initializer(initializer.clone()).init(device))
        };
        let blocks = 0..config.n_layer;
        Self {
            wte: embedding(config.vocab_size),
            wpe: embedding(config.n_positions),
            drop: DropoutConfig::new(config.embd_pdrop).init(),
            h: blocks
                .map(|layer| GPT2Block::new(config, layer, device))
                .collect(),
            ln_f: block::layer_norm(config, device),
        }
    }

    /// The sum of token and position embeddings, `[batch * seq, d]`, before dropout.
    pub fn embed(&self, input: &ModelInput, past: usize) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let device = input.input_ids.device();
        let tokens = self
            .wte
            .forward(input.input_ids.clone().reshape([batch * seq]));
        match &input.position_ids {
            Some(positions) => tokens + self.wpe.forward(positions.clone().reshape([batch * seq])),
            None => {
                let positions = past as i64..(past + seq) as i64;
                let positions = self.wpe.forward(Tensor::arange(positions, &device));
                let [_, d] = positions.dims();
                let sum = tokens.reshape([batch, seq, d]) + positions.unsqueeze();
                sum.reshape([batch * seq, d])
            }
        }
    }

    /// The embeddings with those put before every row, `[batch * (extra + seq), d]`.
    fn embed_with_extra(&self, input: &ModelInput, past: usize) -> Tensor<2> {
        let Some(extra) = &input.extra.embeddings else {
            return self.embed(input, past);
        };
        let [batch, seq] = input.input_ids.dims();
        let [positions, d] = extra.dims();
        let tokens = self.embed(input, past + positions);
        let of_extra = past as i64..(past + positions) as i64;
        let of_extra = self.wpe.forward(Tensor::arange(of_extra, &extra.device()));
        let extra = (extra.clone() + of_extra).unsqueeze::<3>();
        let extra = extra.expand([batch, positions, d]);
        let all = Tensor::cat(vec![extra, tokens.reshape([batch, seq, d])], 1);
        all.reshape([batch * (positions + seq), d])
    }

    /// The input of the first block, `[batch * (extra + seq), d]`.
    fn start(&self, input: &ModelInput, past: usize) -> Tensor<2> {
        let embedded = self.embed_with_extra(input, past);
        let probability = dropout_probability(&self.drop, &embedded);
        dropout(embedded, probability)
    }

    /// The hidden states after the last norm, `[batch * seq, d]`; with those of extra embeddings
    /// before each row's, `[batch * (extra + seq), d]`.
    pub fn forward(&self, input: &ModelInput, cache: Option<&mut KvCache>) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let mut prefix = KvCache::default();
        let mut cache = cache;
        if !input.extra.keys_and_values.is_empty() {
            let cache = cache.get_or_insert(&mut prefix);
            cache.begin(&input.extra.keys_and_values, batch);
        }
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let mask = AttentionMask::of(input, past, cache.is_some());
        let mut hidden = self.start(input, past);
        for (layer, block) in self.h.iter().enumerate() {
            let cache = cache.as_mut().map(|cache| (&mut **cache, layer));
            hidden = block.forward(hidden, batch, &mask, cache);
        }
        if let Some(cache) = cache {
            cache.advance(seq);
        }
        self.ln_f.forward(hidden)
    }
}

impl GPT2LMHeadModel {
    /// The model with random weights, which are made when they are first used.
    pub fn new(config: &Gpt2Config, device: &Device) -> Self {
        let head = LinearConfig::new(config.n_embd, config.vocab_size)
            .with_bias(false)
            .with_initializer(Initializer::Normal {
                mean: 0.0,
                std: config.initializer_range,
            });
        Self {
            transformer: GPT2Model::new(config, device),
            lm_head: (!config.tie_word_embeddings).then(|| LoraAdapter::new(head.init(device))),
            config: config.clone(),
        }
    }

    /// The configuration the model was made from.
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// Gives a tied head a weight of its own, equal to the embedding's.
    fn untie(&mut self) {
        if self.lm_head.is_some() {
            return;
        }
        let weight = self.transformer.wte.base_layer.weight.val().detach();
        let weight = Param::from_tensor(weight.transpose()).set_require_grad(false);
        let head = Linear { weight, bias: None };
        self.lm_head = Some(LoraAdapter::new(head));
        self.config.tie_word_embeddings = false;
    }

    /// Gives the vocabulary so many rows; further ones are the mean of the others, as transformers'
    /// are but for noise.
    fn resize(&mut self, rows: usize) {
        let resized = |weight: Tensor<2>| {
            let [vocab, d] = weight.dims();
            if rows <= vocab {
                return weight.slice([0..rows, 0..d]);
            }
            let kept = weight.dtype();
            let mean = weight.clone().cast(FloatDType::F32).mean_dim(0);
            let further = mean.expand([rows - vocab, d]).cast(kept);
            Tensor::cat(vec![weight, further], 0)
        };
        let frozen = |weight| Param::from_tensor(weight).set_require_grad(false);
        let wte = &mut self.transformer.wte.base_layer.weight;
        *wte = frozen(resized(wte.val().detach()));
        if let Some(head) = &mut self.lm_head {
            let weight = &mut head.base_layer.weight;
            *weight = frozen(resized(weight.val().detach().transpose()).transpose());
        }
        self.config.vocab_size = rows;
    }

    /// What methods that act at the model are told.
    fn openings(&self) -> ModelInfo {
        ModelInfo {
            token_dim: self.config.n_embd,
            num_layers: self.config.n_layer,
            num_attention_heads: self.config.n_head,
            max_positions: self.config.n_positions,
        }
    }

    /// The logits of hidden states: `[tokens, d]` to `[tokens, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => self.transformer.wte.tied_output(hidden),
        }
    }

    /// The head's weight where it is tied, `[vocab, d]`. As in PEFT, most adapters on `wte` act on
    /// the embedding only.
    fn tied_weight(&self) -> Tensor<2> {
        self.transformer.wte.tied_weight()
    }
}

impl CausalLm for GPT2LMHeadModel {
    fn forward(&self, input: ModelInput) -> Tensor<3> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let logits = self.logits(self.transformer.forward(&input, None));
        logits.reshape([batch, seq, self.config.vocab_size])
    }

    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let hidden = self.transformer.forward(&input, Some(cache));
        let last: Vec<i64> = (1..=batch as i64).map(|row| row * seq as i64 - 1).collect();
        let last = Tensor::<1, Int>::from_data(last.as_slice(), &input.input_ids.device());
        self.logits(hidden.select(0, last))
    }

    fn loss(&self, batch: &LmBatch) -> Tensor<1> {
        let batch = batch.unpadded();
        self.loss_of(self.transformer.forward(&batch.input, None), batch)
    }

    fn checkpointed_backward(&self, batch: &LmBatch, weight: f64) -> Option<Checkpointed> {
        let batch = batch.unpadded();
        let extra = &batch.input.extra;
        let past = extra.prefix_positions();
        let mask = AttentionMask::of(&batch.input, past, past > 0);
        let chain = |model, extra| {
            let mut batch = batch.clone();
            batch.input.extra = extra;
            Gpt2Chain {
                model,
                batch,
                mask: &mask,
            }
        };
        let device = self.device();
        Some(checkpointing::backward(self, extra, &device, weight, chain))
    }

    fn max_positions(&self) -> usize {
        self.config.n_positions
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn device(&self) -> Device {
        Slot::device(&self.transformer.ln_f)
    }
}

/// The model on one batch, for gradient checkpointing.
struct Gpt2Chain<'a> {
    model: GPT2LMHeadModel,
    batch: LmBatch,
    mask: &'a AttentionMask,
}

impl Chain for Gpt2Chain<'_> {
    type Block = GPT2Block;

    fn start(&self) -> Tensor<2> {
        let input = &self.batch.input;
        let past = input.extra.prefix_positions();
        self.model.transformer.start(input, past)
    }

    fn blocks(&self) -> &[GPT2Block] {
        &self.model.transformer.h
    }

    fn block(&self, index: usize, input: Tensor<2>) -> Tensor<2> {
        let [rows, _] = self.batch.input.input_ids.dims();
        let prefix = &self.batch.input.extra.keys_and_values;
        // The one layer of a cache of its own.
        let mut cache = KvCache::default();
        let cache = prefix.get(index).map(|of_layer| {
            cache.begin(std::slice::from_ref(of_layer), rows);
            (&mut cache, 0)
        });
        self.blocks()[index].forward(input, rows, self.mask, cache)
    }

    fn finish(&self, output: Tensor<2>) -> Tensor<1> {
        let hidden = self.model.transformer.ln_f.forward(output);
        self.model.loss_of(hidden, &self.batch)
    }
}

impl GPT2LMHeadModel {
    /// The loss of the hidden states after the last norm, `[batch * seq, d]`.
    fn loss_of(&self, hidden: Tensor<2>, batch: &LmBatch) -> Tensor<1> {
        let hidden = batch.input.of_text(hidden);
        let hidden = batch.supervised.there(hidden);
        let targets = batch.targets.clone();
        let weight = match &self.lm_head {
            // What an adapter makes of the head is no product with one weight.
            Some(head) if head.is_adapted() => {
                let logits = |rows| head.forward(rows);
                return cross_entropy_sum_of(logits, self.config.vocab_size, hidden, targets);
            }
            Some(head) => head.active_weight().transpose(),
            None => self.tied_weight(),
        };
        vocabulary_loss(hidden, weight, targets)
    }
}
