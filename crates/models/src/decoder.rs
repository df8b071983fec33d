//! What all decoders have in common: the pass through the blocks, cached decoding, the loss, the
//! tied head.

mod block;
mod fields;
mod pass;

use burn::module::Param;
use burn::nn::{Dropout, Embedding, Linear};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use burn_peft::{BaseModel, LoraAdapter, ModelInfo, Slot};
use burn_peft_kernels::{
    HeadWeight, TokenLogProbs, apply_dropout, token_log_probs, token_log_probs_of, vocabulary_loss,
};

use crate::checkpointing::{self, LossOf};
use crate::config::ModelConfig;
use crate::encoder::MaskedHead;
use crate::loss::cross_entropy_sum_of;
use crate::parts::scaled;
use crate::weights::NamedTensor;
use crate::{CausalLm, Checkpointed, Head, KvCache, LmBatch, ModelInput, Result};

pub use block::{DecoderBlock, LayerCache};
pub(crate) use fields::{changed_by_decoder, decoder_fields};
pub use pass::{Pass, Places, Positions};

/// A decoder with a language-model head, as described by its family. An encoder is one whose tokens
/// see each other in both directions ([`is_causal`](Self::is_causal)), without a cache.
///
/// Every implementation is a [`CausalLm`], can be loaded from and saved to Hugging Face folders
/// ([`Pretrained`](crate::Pretrained)), and can be part of [`AutoModel`](crate::AutoModel).
pub trait Decoder: BaseModel + Sync {
    /// The family's `config.json`.
    type Config: ModelConfig;
    /// One of the blocks.
    type Block: DecoderBlock;

    /// A model with random weights, which are created when they are first used.
    fn new(config: &Self::Config, device: &Device) -> Self;

    /// The configuration the model was made from.
    fn config(&self) -> &Self::Config;

    /// The configuration, mutable, to be changed together with the model.
    fn config_mut(&mut self) -> &mut Self::Config;

    /// The token embeddings, `[vocab, d]`.
    fn embedding(&self) -> &LoraAdapter<Embedding>;

    /// The token embeddings, mutable.
    fn embedding_mut(&mut self) -> &mut LoraAdapter<Embedding>;

    /// The head, unless it is tied to the token embeddings.
    fn head(&self) -> &Option<LoraAdapter<Linear>>;

    /// The head, mutable.
    fn head_mut(&mut self) -> &mut Option<LoraAdapter<Linear>>;

    /// The blocks, in order.
    fn blocks(&self) -> &[Self::Block];

    /// The norm after the last block, `[tokens, d]`. By default there is none, as in models whose
    /// blocks end with one.
    fn final_norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden
    }

    /// The positions of an input's tokens, after `past` positions.
    fn positions(&self, input: &ModelInput, past: usize) -> Positions {
        Positions::of(input, past)
    }

    /// Adds learnt positions to embeddings, `[rows * seq, d]`. Does nothing by default, as for
    /// models whose positions act in attention.
    fn add_positions(&self, embedded: Tensor<2>, _positions: Positions) -> Tensor<2> {
        embedded
    }

    /// Applied to embeddings before the first block, `[tokens, d]`.
    fn after_embedding(&self, embedded: Tensor<2>) -> Tensor<2> {
        embedded
    }

    /// The standard deviation of the random weight of a linear layer or embedding, by tensor name
    /// (transformers' `_init_weights`).
    fn initial_std(config: &Self::Config, _name: &str) -> f64 {
        config.common().initializer_range
    }

    /// The constant that a weight is initialised to, if it is not one that all families share
    /// (biases zero, norms one).
    fn initial_value(_config: &Self::Config, _name: &str) -> Option<f32> {
        None
    }

    /// The row of a weight that is initialised to zero, by tensor name.
    fn empty_row(_config: &Self::Config, _name: &str) -> Option<usize> {
        None
    }

    /// What a checkpoint holds apart from weights, to be written with them.
    fn buffers(&self) -> Vec<NamedTensor<'static>> {
        Vec::new()
    }

    /// Reads what a checkpoint holds apart from weights; `read` returns a tensor by its name.
    ///
    /// # Errors
    /// The errors of `read`.
    fn set_buffers(&mut self, _read: &dyn Fn(&str) -> Result<Option<TensorData>>) -> Result<()> {
        Ok(())
    }

    /// The embeddings of tokens, `[tokens]`, as the first block or the positions take them:
    /// `[tokens, d]`.
    fn embed_tokens(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        self.embedding().forward(ids)
    }

    /// Whether a token sees only the tokens before it. In an encoder it sees its whole text.
    fn is_causal(&self) -> bool {
        true
    }

    /// What all blocks need to know about a pass over an input after `past` positions, which are
    /// `cached`.
    fn pass(&self, input: &ModelInput, past: usize, cached: bool) -> Pass {
        if self.is_causal() {
            Pass::new(input, past, cached)
        } else {
            Pass::both_ways(input, past)
        }
    }

    /// The hidden states after the last norm, as the head takes them, `[batch * seq, d]`. If a
    /// classifier judges a text by more than one token, every token gets the vector of its text.
    fn pooled(&self, hidden: Tensor<2>, _input: &ModelInput) -> Tensor<2> {
        hidden
    }

    /// Adds the embeddings of the two texts of a pair to those of tokens and positions, `[batch *
    /// seq, d]`; `types` is 0 for the first and 1 for the second.
    fn add_token_types(&self, embedded: Tensor<2>, _types: Option<Tensor<1, Int>>) -> Tensor<2> {
        embedded
    }

    /// The length above which a text is computed differently, so that what is cached for it cannot
    /// be used.
    fn longest_cached(&self) -> Option<usize> {
        None
    }

    /// As [`CausalLm::computes_alike`].
    fn computes_alike(&self, _a: usize, _b: usize) -> bool {
        true
    }

    /// The factor of the product of hidden states and the head's weight.
    fn logit_scale(&self) -> f64 {
        1.0
    }

    /// The soft cap of logits, `cap · tanh(logits / cap)`, if they have one.
    fn logit_cap(&self) -> Option<f64> {
        None
    }

    /// The head that predicts masked tokens, if there is one: the bias of its output is tied or resized
    /// with the weight.
    fn masked_head_mut(&mut self) -> Option<&mut MaskedHead> {
        None
    }

    /// Gives a tied head a weight of its own, equal to the embedding's.
    fn untie(&mut self) {
        if self.head().is_some() || !self.config().head().predicts_tokens() {
            return;
        }
        let weight = self.embedding().base_layer.weight.val().detach();
        let weight = Param::from_tensor(weight.transpose()).set_require_grad(false);
        let bias = self.masked_head_mut().and_then(MaskedHead::take_bias);
        let mut head = LoraAdapter::new(Linear { weight, bias });
        head.keep_transposed(self.embedding());
        *self.head_mut() = Some(head);
        self.config_mut().set_tie_word_embeddings(false);
    }

    /// Resizes the vocabulary to this many rows. New rows are the mean of the others, as in
    /// transformers, which adds noise.
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
        self.embedding_mut().make_dense();
        let embedding = &mut self.embedding_mut().base_layer.weight;
        *embedding = frozen(resized(embedding.val().detach()));
        let classifies = self.config().head().classifies();
        if let Some(head) = self.head_mut().as_mut().filter(|_| !classifies) {
            head.make_dense();
            let Linear { weight, bias } = &mut head.base_layer;
            *weight = frozen(resized(weight.val().detach().transpose()).transpose());
            if let Some(bias) = bias {
                let column = bias.val().detach().unsqueeze_dim(1);
                let resized = resized(column).squeeze_dim(1);
                *bias = Param::from_tensor(resized).set_require_grad(false);
            }
        }
        if let Some(head) = self.masked_head_mut() {
            head.resize(rows);
        }
        self.config_mut().set_vocab_size(rows);
    }

    /// What methods that act at the model need to know.
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
                let extra = self.add_token_types(extra, None);
                let extra = extra.unsqueeze::<3>().expand([batch, positions, d]);
                let all = Tensor::cat(vec![extra, tokens.reshape([batch, seq, d])], 1);
                all.reshape([batch * (positions + seq), d])
            }
        };
        self.after_embedding(embedded)
    }

    /// The embeddings of the tokens, with those of learnt positions, `[batch * seq, d]`.
    fn embed(&self, input: &ModelInput, past: usize) -> Tensor<2> {
        let [batch, seq] = input.input_ids.dims();
        let ids = input.input_ids.clone().reshape([batch * seq]);
        let positions = self.positions(input, past);
        let embedded = self.add_positions(self.embed_tokens(ids), positions);
        let types = input.token_type_ids.clone();
        self.add_token_types(embedded, types.map(|types| types.reshape([batch * seq])))
    }

    /// The hidden states after the last norm, `[batch * seq, d]`; with extra embeddings, theirs
    /// come before each row's: `[batch * (extra + seq), d]`.
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
        let pass = self.pass(input, past, cache.is_some());
        let mut hidden = self.start(input, past);
        for (layer, block) in self.blocks().iter().enumerate() {
            let cache = cache.as_mut().map(|cache| (&mut **cache, layer));
            hidden = block.forward(hidden, &pass, cache);
        }
        if let Some(cache) = cache {
            cache.advance(seq);
        }
        self.final_norm(hidden)
    }

    /// The dropout before the head, if there is one.
    fn head_dropout(&self) -> &Option<Dropout> {
        &None
    }

    /// The logits of hidden states: `[tokens, d]` to `[tokens, vocab]`; for a classifier to
    /// `[tokens, labels]`; without a head the hidden states unchanged.
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.scores(match self.head_dropout() {
            None => hidden,
            Some(dropout) => apply_dropout(dropout, hidden),
        })
    }

    /// As [`logits`](Self::logits), after the dropout.
    fn scores(&self, hidden: Tensor<2>) -> Tensor<2> {
        if self.config().head().is_none() {
            return hidden;
        }
        if let Some(head) = self.head()
            && self.config().head().classifies()
        {
            return head.forward(hidden);
        }
        // Scaling before the product gives the same result, and the tensor is smaller.
        let hidden = scaled(hidden, self.logit_scale());
        let logits = match self.head() {
            Some(head) => head.forward(hidden),
            None => self.embedding().tied_output(hidden),
        };
        match self.logit_cap() {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// The logits at some indices of a batch's flattened rows, `[places, vocab]`, from hidden
    /// states after the last norm, `[batch * seq, d]`.
    fn logits_of(&self, hidden: Tensor<2>, batch: &LmBatch, places: &[usize]) -> Tensor<2> {
        let hidden = batch.input.of_text(self.pooled(hidden, &batch.input));
        let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &hidden.device());
        match self.head_dropout() {
            None => self.logits(hidden.select(0, places)),
            // Dropout depends on the token, whichever tokens are asked for.
            Some(dropout) => self.scores(apply_dropout(dropout, hidden).select(0, places)),
        }
    }

    /// The sum of the cross-entropy, `[1]`, from hidden states after the last norm, `[batch * seq,
    /// d]`.
    fn loss_of(&self, hidden: Tensor<2>, batch: &LmBatch) -> Tensor<1> {
        let hidden = batch.input.of_text(hidden);
        // With an adapter, a bias or a cap, it is not a product with a single weight.
        let head = self.head().as_ref();
        let more = head.is_some_and(|head| head.is_adapted() || head.base_layer.bias.is_some());
        if more || self.logit_cap().is_some() || !self.is_causal() {
            let (logits, hidden) = (|rows| self.logits(rows), batch.predicting(hidden));
            return cross_entropy_sum_of(logits, self.vocab_size(), hidden, batch.targets());
        }
        let weight = self.output_weight();
        let (hidden, targets) = batch.predicting_with(hidden, &weight);
        vocabulary_loss(scaled(hidden, self.logit_scale()), weight, targets)
    }

    /// The weight of the head without its adapters, `[vocab, d]`.
    fn output_weight(&self) -> HeadWeight {
        match self.head() {
            Some(head) => head.head_weight(),
            // As in PEFT, most adapters on the embedding act only on the embedding.
            None => self.embedding().tied_weight(),
        }
    }

    /// As [`CausalLm::token_log_probs`], from hidden states after the last norm, `[batch * seq,
    /// d]`.
    fn log_probs_of(&self, hidden: Tensor<2>, batch: &LmBatch, statistics: bool) -> TokenLogProbs {
        let hidden = batch.predicting(batch.input.of_text(hidden));
        let targets = batch.targets();
        let head = self.head().as_ref();
        if head.is_some_and(LoraAdapter::is_adapted) || !self.is_causal() {
            let (logits, vocab) = (|rows| self.logits(rows), self.vocab_size());
            return token_log_probs_of(logits, vocab, hidden, targets, statistics);
        }
        let hidden = scaled(hidden, self.logit_scale());
        let bias = head.and_then(LoraAdapter::head_bias);
        let (weight, cap) = (self.output_weight(), self.logit_cap());
        token_log_probs(hidden, weight, bias, cap, targets, statistics)
    }
}

impl<D: Decoder> CausalLm for D {
    fn forward(&self, input: ModelInput) -> Tensor<3> {
        let [batch, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let hidden = self.hidden_states(&input, None);
        let logits = self.logits(self.pooled(hidden, &input));
        let [_, outputs] = logits.dims();
        logits.reshape([batch, seq, outputs])
    }

    fn logits_at(&self, batch: &LmBatch, places: &[usize]) -> Tensor<2> {
        self.logits_of(self.hidden_states(&batch.input, None), batch, places)
    }

    fn checkpointed_logits_at(
        &self,
        batch: &LmBatch,
        places: &[usize],
        loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        let loss = LossOf::LogitsAt { places, loss };
        Some(checkpointing::backward(self, batch, &loss))
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

    fn token_log_probs(&self, batch: &LmBatch, statistics: bool) -> TokenLogProbs {
        let batch = batch.unpadded();
        self.log_probs_of(self.hidden_states(&batch.input, None), batch, statistics)
    }

    fn checkpointed_backward(&self, batch: &LmBatch, weight: f64) -> Option<Checkpointed> {
        let loss = LossOf::Tokens { weight };
        Some(checkpointing::backward(self, batch.unpadded(), &loss))
    }

    fn checkpointed_log_probs(
        &self,
        batch: &LmBatch,
        statistics: bool,
        loss: &dyn Fn(TokenLogProbs) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        let loss = LossOf::LogProbs { statistics, loss };
        Some(checkpointing::backward(self, batch.unpadded(), &loss))
    }

    fn head(&self) -> Head {
        self.config().head().clone()
    }

    fn is_causal(&self) -> bool {
        Decoder::is_causal(self)
    }

    fn max_positions(&self) -> usize {
        self.config().common().max_positions
    }

    fn outgrows_cache(&self, past: usize, total: usize) -> bool {
        let longest = Decoder::longest_cached(self);
        longest.is_some_and(|longest| 0 < past && past <= longest && longest < total)
    }

    fn computes_alike(&self, a: usize, b: usize) -> bool {
        Decoder::computes_alike(self, a, b)
    }

    fn has_last_position(&self) -> bool {
        self.config().common().has_last_position
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
