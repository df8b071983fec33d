//! What a causal language model answers, whatever its family.

use burn::module::{Module, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::Extra;
use burn_peft_kernels::{Texts, TokenLogProbs};

use crate::{Head, KvCache, LmBatch};

/// The input of a forward pass.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// Token ids, `[batch, seq]`.
    pub input_ids: Tensor<2, Int>,
    /// 1 for a token, 0 for padding, on either side: `[batch, seq]`, or `[batch, past + seq]`
    /// with a cache; positions of `extra` are left out. Without it every position is a token.
    pub attention_mask: Option<Tensor<2, Int>>,
    /// The positions of the tokens, `[batch, seq]`. Without it they count from the start of the
    /// row, padding included, as in transformers; see [`position_ids`] for left-padded rows.
    pub position_ids: Option<Tensor<2, Int>>,
    /// One more than the largest of `position_ids`, for whoever has them on the host: where rotary
    /// positions depend on the length, it is otherwise read back from the device.
    pub length: Option<usize>,
    /// Which text of a pair a token belongs to, 0 or 1, `[batch, seq]`: models that learn nothing of it
    /// leave it out, and without it every token is of the first.
    pub token_type_ids: Option<Tensor<2, Int>>,
    /// Which of several packed texts a token belongs to, `[batch, seq]`: it attends to those of
    /// its own number only. `position_ids` have to start anew with each, and there is neither an
    /// `attention_mask` (padding is a text of its own) nor a cache.
    pub segment_ids: Option<Tensor<2, Int>>,
    /// Where the texts are that the mask or the numbers leave, without `extra`, for whoever has
    /// them on the host ([`LmBatch`] does): otherwise they are read back from the device.
    pub texts: Option<Texts>,
    /// What stands before every row, or every text of a packed row, for methods that act at the
    /// model. `position_ids` have to begin after it.
    /// [`PeftModel`](burn_peft::PeftModel) sees to both.
    pub extra: Extra,
}

impl ModelInput {
    /// Rows without padding: `input_ids` `[batch, seq]`.
    pub fn new(input_ids: Tensor<2, Int>) -> Self {
        Self {
            input_ids,
            attention_mask: None,
            position_ids: None,
            length: None,
            token_type_ids: None,
            segment_ids: None,
            texts: None,
            extra: Extra::default(),
        }
    }

    /// The same with these positions, of the shape of the ids.
    pub(crate) fn at(mut self, positions: &[i64]) -> Self {
        let data = TensorData::new(positions.to_vec(), self.input_ids.dims());
        self.position_ids = Some(Tensor::from_data(data, &self.input_ids.device()));
        self.length = positions.iter().max().map(|&last| last as usize + 1);
        self
    }

    /// The attention mask of `total` positions, `[batch, total]`: what is put before the text is
    /// seen by all of it.
    pub(crate) fn full_attention_mask(&self, total: usize) -> Option<Tensor<2, Int>> {
        let mask = self.attention_mask.clone()?;
        let [batch, given] = mask.dims();
        let ones = |count| Tensor::<2, Int>::ones([batch, count], &mask.device());
        Some(match total.saturating_sub(given) {
            0 => mask,
            missing => Tensor::cat(vec![ones(missing), mask], 1),
        })
    }

    /// Hidden states without those of extra positions: from `[batch * (extra + seq), d]` to
    /// `[batch * seq, d]`.
    pub(crate) fn of_text(&self, hidden: Tensor<2>) -> Tensor<2> {
        let extra = self.extra.embedded_positions();
        if extra == 0 {
            return hidden;
        }
        let [batch, seq] = self.input_ids.dims();
        let [_, d] = hidden.dims();
        let hidden = hidden.reshape([batch, extra + seq, d]);
        hidden
            .slice([0..batch, extra..extra + seq])
            .reshape([batch * seq, d])
    }
}

/// The positions that make a padded row compute what it computes without its padding: they count
/// tokens only (transformers' `generate`). `attention_mask` and result: `[batch, seq]`.
pub fn position_ids(attention_mask: Tensor<2, Int>) -> Tensor<2, Int> {
    (attention_mask.cumsum(1) - 1).clamp_min(0)
}

/// What one pass forward and one back give.
pub struct Checkpointed {
    /// The loss, `[1]`, without its graph.
    pub loss: Tensor<1>,
    /// The gradients of the parameters.
    pub gradients: GradientsParams,
    /// The gradients of the batch's [`extra`](ModelInput::extra), in its place.
    pub extra: Extra,
}

/// A causal language model: logits, loss and cached decoding.
///
/// Implemented by every family, and by [`PeftModel`](burn_peft::PeftModel) around any of them.
pub trait CausalLm: Module + ModuleDisplay + Sync {
    /// The logits of every position, `[batch, seq, vocab]`, or of a classifier
    /// `[batch, seq, labels]`, or of a model without a head its hidden states, `[batch, seq, d]`;
    /// extra positions that run through the model have logits too, before those of the tokens (as in
    /// PEFT).
    ///
    /// # Panics
    /// If a token id or a position is none of the model's: check ids against
    /// [`vocab_size`](Self::vocab_size) and lengths against [`max_positions`](Self::max_positions).
    fn forward(&self, input: ModelInput) -> Tensor<3>;

    /// The logits of the last position of every row, `[batch, vocab]`, given a cache of the
    /// positions before, which grows by this input.
    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2>;

    /// The logits at some places of a batch's flattened rows, `[places, vocab]`, or of a classifier
    /// `[places, labels]`, or of a model without a head its hidden states there, `[places, d]`.
    fn logits_at(&self, batch: &LmBatch, places: &[usize]) -> Tensor<2>;

    /// The head: which labels a classifier scores.
    fn head(&self) -> Head {
        Head::default()
    }

    /// Whether it predicts each token from those before it. An encoder does not, and neither
    /// [`loss`](Self::loss), [`token_log_probs`](Self::token_log_probs) nor a cache is of use then.
    fn is_causal(&self) -> bool {
        true
    }

    /// The *sum* of the cross-entropy over the batch's supervised tokens, `[1]`.
    ///
    /// Never holds tokens × vocabulary at once: see [`vocabulary_loss`](crate::vocabulary_loss).
    fn loss(&self, batch: &LmBatch) -> Tensor<1>;

    /// The log-probabilities of the batch's supervised tokens, `[count]`, text after text, and with
    /// `statistics` what the probabilities of all tokens look like at each.
    ///
    /// Never holds tokens × vocabulary at once: see [`token_log_probs`](crate::token_log_probs).
    fn token_log_probs(&self, batch: &LmBatch, statistics: bool) -> TokenLogProbs;

    /// `weight` times the loss and its gradients, with the activations of one block in memory at a
    /// time (gradient checkpointing): another forward pass is the price. Nothing where the model
    /// cannot do so: [`loss`](Self::loss) is the way.
    fn checkpointed_backward(&self, _batch: &LmBatch, _weight: f64) -> Option<Checkpointed> {
        None
    }

    /// As [`checkpointed_backward`](Self::checkpointed_backward), for what `loss` makes of the
    /// [log-probabilities](Self::token_log_probs), `[1]`.
    fn checkpointed_log_probs(
        &self,
        _batch: &LmBatch,
        _statistics: bool,
        _loss: &dyn Fn(TokenLogProbs) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        None
    }

    /// As [`checkpointed_backward`](Self::checkpointed_backward), of what a loss makes of the
    /// [logits at some places](Self::logits_at).
    fn checkpointed_logits_at(
        &self,
        _batch: &LmBatch,
        _places: &[usize],
        _loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        None
    }

    /// The number of positions the model has for tokens.
    fn max_positions(&self) -> usize;

    /// Whether there are no positions beyond [`max_positions`](Self::max_positions), as where
    /// positions are learnt. Rotary ones go on, though the model was not trained for them.
    fn has_last_position(&self) -> bool {
        true
    }

    /// Whether a text that has grown to `total` positions has to be computed anew, because what is
    /// cached of its first `past` positions was computed otherwise: transformers does so for Phi-3,
    /// whose frequencies are others for long texts.
    fn outgrows_cache(&self, _past: usize, _total: usize) -> bool {
        false
    }

    /// Whether what texts of `a` and of `b` positions begin with is computed alike, so that what is
    /// cached of one serves the other: not where frequencies depend on how long a text is.
    fn computes_alike(&self, _a: usize, _b: usize) -> bool {
        true
    }

    /// What its `config.json` calls [`max_positions`](Self::max_positions).
    fn positions_key(&self) -> &'static str {
        "max_position_embeddings"
    }

    /// The positions that an adapter takes, which are not among
    /// [`max_positions`](Self::max_positions).
    fn adapter_positions(&self) -> usize {
        0
    }

    /// The number of tokens the model knows.
    fn vocab_size(&self) -> usize;

    /// The text of its `config.json`, where it has one: what a run is based on beside the weights.
    fn config_json(&self) -> Option<String> {
        None
    }

    /// The device of the weights.
    fn device(&self) -> Device;
}
