//! What every decoder does alike, written once: the way through the blocks, cached decoding, the
//! loss, the tied head.

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, FloatDType, Int, Tensor};
use burn_peft::{BaseModel, LoraAdapter, ModelInfo};
use burn_peft_kernels::vocabulary_loss;

use crate::checkpointing;
use crate::config::ModelConfig;
use crate::loss::cross_entropy_sum_of;
use crate::parts::AttentionMask;
use crate::{CausalLm, Checkpointed, KvCache, LmBatch, ModelInput};

/// A decoder with a language-model head: what a family says of itself.
///
/// Whoever implements it is a [`CausalLm`], comes from and goes to Hugging Face folders
/// ([`Pretrained`](crate::Pretrained)), and can be in [`AutoModel`](crate::AutoModel).
pub trait Decoder: BaseModel {
    /// The family's `config.json`.
    type Config: ModelConfig;
    /// One of the blocks.
    type Block: Module;

    /// What checkpoints put before the names of all weights but the head's, and may leave out:
    /// transformers' `base_model_prefix`, with a dot.
    const PREFIX: &'static str;

    /// The model with random weights, which are made when they are first used.
    fn new(config: &Self::Config, device: &Device) -> Self;

    /// The configuration the model was made from.
    fn config(&self) -> &Self::Config;

    /// The configuration, to change it with the model.
    fn config_mut(&mut self) -> &mut Self::Config;

    /// The token embeddings, `[vocab, d]`.
    fn embedding(&self) -> &LoraAdapter<Embedding>;

    /// The token embeddings, to change them.
    fn embedding_mut(&mut self) -> &mut LoraAdapter<Embedding>;

    /// The head, where it is not tied to the token embeddings.
    fn head(&self) -> &Option<LoraAdapter<Linear>>;

    /// The head, to change it.
    fn head_mut(&mut self) -> &mut Option<LoraAdapter<Linear>>;

    /// The blocks, in order.
    fn blocks(&self) -> &[Self::Block];

    /// The output of a block, `[batch * seq, d]`, of an input of this shape.
    fn block(
        &self,
        block: &Self::Block,
        hidden: Tensor<2>,
        pass: &Pass,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<2>;

    /// The norm after the last block, `[tokens, d]`.
    fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2>;

    /// Adds learnt positions to embeddings, `[rows * seq, d]`; nothing where positions act in the
    /// attention.
    fn add_positions(&self, embedded: Tensor<2>, _positions: Positions) -> Tensor<2> {
        embedded
    }

    /// What is done to embeddings before the first block, `[tokens, d]`.
    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        embedded
    }

    /// Whether a tensor in a checkpoint is no weight, and left out: a stored mask, say.
    fn is_buffer(_name: &str) -> bool {
        false
    }

    /// The standard deviation of a linear layer's or embedding's random weight, by the name of the
    /// tensor (transformers' `_init_weights`).
    fn initial_std(config: &Self::Config, _name: &str) -> f64 {
        config.common().initializer_range
    }

    /// Gives a tied head a weight of its own, equal to the embedding's.
    fn untie(&mut self) {
        if self.head().is_some() {
            return;
        }
        let weight = self.embedding().base_layer.weight.val().detach();
        let weight = Param::from_tensor(weight.transpose()).set_require_grad(false);
        *self.head_mut() = Some(LoraAdapter::new(Linear { weight, bias: None }));
        self.config_mut().set_tie_word_embeddings(false);
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
        let embedding = &mut self.embedding_mut().base_layer.weight;
        *embedding = frozen(resized(embedding.val().detach()));
        if let Some(head) = self.head_mut() {
            let weight = &mut head.base_layer.weight;
            *weight = frozen(resized(weight.val().detach().transpose()).transpose());
        }
        self.config_mut().set_vocab_size(rows);
    }

    /// What methods that act at the model are told.
    fn openings(&self) -> ModelInfo {
        self.config().common().model_info()
    }

    /// The input of the first block, `[batch * (extra + seq), d]`, after `past` positions.
    fn start(&self, input: &ModelInput, past: usize) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let embedded = match &input.extra.embeddings {
            None => self.embed(input, past),
            Some(extra) => {
                let [positions, d] = extra.dims();
                let tokens = self.embed(input, past + positions);
                let of_extra = Positions::Range(past..past + positions);
                let extra = self.add_positions(extra.clone(), of_extra);
                let extra = extra.unsqueeze::<3>().expand([batch, positions, d]);
                let all = Tensor::cat(vec![extra, tokens.reshape([batch, seq, d])], 1);
                all.reshape([batch * (positions + seq), d])
            }
        };
        self.after_embedding(embedded)
    }

    /// The embeddings of the tokens with what is learnt of their positions, `[batch * seq, d]`.
    fn embed(&self, input: &ModelInput, past: usize) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let ids = input.input_ids.clone().reshape([batch * seq]);
        let positions = match &input.position_ids {
            Some(ids) => Positions::Ids(ids.clone().reshape([batch * seq])),
            None => Positions::Range(past..past + seq),
        };
        self.add_positions(self.embedding().forward(ids), positions)
    }

    /// The hidden states after the last norm, `[batch * seq, d]`; with those of extra embeddings
    /// before each row's, `[batch * (extra + seq), d]`.
    fn hidden_states(&self, input: &ModelInput, cache: Option<&mut KvCache>) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let mut prefix = KvCache::default();
        let mut cache = cache;
        if !input.extra.keys_and_values.is_empty() {
            let cache = cache.get_or_insert(&mut prefix);
            cache.begin(&input.extra.keys_and_values, batch);
        }
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let pass = Pass {
            batch,
            mask: AttentionMask::of(input, past, cache.is_some()),
        };
        let mut hidden = self.start(input, past);
        for (layer, block) in self.blocks().iter().enumerate() {
            let cache = cache.as_mut().map(|cache| (&mut **cache, layer));
            hidden = self.block(block, hidden, &pass, cache);
        }
        if let Some(cache) = cache {
            cache.advance(seq);
        }
        self.final_norm(hidden)
    }

    /// The logits of hidden states: `[tokens, d]` to `[tokens, vocab]`.
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match self.head() {
            Some(head) => head.forward(hidden),
            None => self.embedding().tied_output(hidden),
        }
    }

    /// The sum of the cross-entropy, `[1]`, of hidden states after the last norm,
    /// `[batch * seq, d]`.
    fn loss_of(&self, hidden: Tensor<2>, batch: &LmBatch) -> Tensor<1> {
        let hidden = batch.input.of_text(hidden);
        let hidden = batch.supervised.there(hidden);
        let targets = batch.targets.clone();
        let weight = match self.head() {
            // What an adapter makes of the head is no product with one weight.
            Some(head) if head.is_adapted() => {
                let logits = |rows| head.forward(rows);
                return cross_entropy_sum_of(logits, self.vocab_size(), hidden, targets);
            }
            Some(head) => head.active_weight().transpose(),
            // As in PEFT, most adapters on the embedding act on the embedding only.
            None => self.embedding().tied_weight(),
        };
        vocabulary_loss(hidden, weight, targets)
    }
}

/// What all blocks are told of a pass through the model.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Rows of the batch.
    pub batch: usize,
    /// What each position attends to.
    pub mask: AttentionMask,
}

/// The positions of embeddings.
#[derive(Clone, Debug)]
// A tensor is large, and made once a pass: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
pub enum Positions {
    /// Those of each token, `[rows * seq]`.
    Ids(Tensor<1, Int>),
    /// The same for every row.
    Range(std::ops::Range<usize>),
}

impl<D: Decoder> CausalLm for D {
    fn forward(&self, input: ModelInput) -> Tensor<3> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let logits = self.logits(self.hidden_states(&input, None));
        logits.reshape([batch, seq, self.vocab_size()])
    }

    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let hidden = self.hidden_states(&input, Some(cache));
        let last: Vec<i64> = (1..=batch as i64).map(|row| row * seq as i64 - 1).collect();
        let last = Tensor::<1, Int>::from_data(last.as_slice(), &input.input_ids.device());
        self.logits(hidden.select(0, last))
    }

    fn loss(&self, batch: &LmBatch) -> Tensor<1> {
        let batch = batch.unpadded();
        self.loss_of(self.hidden_states(&batch.input, None), batch)
    }

    fn checkpointed_backward(&self, batch: &LmBatch, weight: f64) -> Option<Checkpointed> {
        Some(checkpointing::backward(self, batch.unpadded(), weight))
    }

    fn max_positions(&self) -> usize {
        self.config().common().max_positions
    }

    fn positions_key(&self) -> &'static str {
        D::Config::own_name("max_position_embeddings")
    }

    fn vocab_size(&self) -> usize {
        self.config().common().vocab_size
    }

    fn config_json(&self) -> Option<String> {
        Some(self.config().to_json())
    }

    fn device(&self) -> Device {
        burn_peft::Slot::device(self.embedding())
    }
}
