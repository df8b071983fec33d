//! What every causal language model can do, whatever its family.

use burn::module::{Module, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor};
use burn_peft::Extra;
use burn_peft_kernels::{FirstKeys, Texts, TokenLogProbs};

use crate::{Head, KvCache, LmBatch};

/// The input of a forward pass.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// Token ids, `[batch, seq]`.
    pub input_ids: Tensor<2, Int>,
    /// 1 for a token, 0 for padding on either side: `[batch, seq]`, or `[batch, past + seq]` with a
    /// cache, without the positions of `extra`. If missing, every position is a token.
    pub attention_mask: Option<Tensor<2, Int>>,
    /// The positions of the tokens, `[batch, seq]`. If missing, they count from the start of the
    /// row, padding included, as in transformers; see [`position_ids`] for left-padded rows.
    pub position_ids: Option<Tensor<2, Int>>,
    /// One more than the largest of `position_ids`, if the caller knows it. If rotary positions
    /// depend on the length, it is otherwise read back from the device.
    pub length: Option<usize>,
    /// Which text of a pair a token belongs to, 0 or 1, `[batch, seq]`. Models without such
    /// embeddings ignore it; if missing, every token belongs to the first text.
    pub token_type_ids: Option<Tensor<2, Int>>,
    /// Which packed text a token belongs to, `[batch, seq]`: a token attends only to tokens with
    /// the same number. `position_ids` have to restart with each text, and neither an
    /// `attention_mask` (padding is a text of its own) nor a cache is allowed.
    pub segment_ids: Option<Tensor<2, Int>>,
    /// Where the texts are according to the mask or the numbers, without `extra`, if the caller
    /// knows it on the host ([`LmBatch`] does). Otherwise the tensors are read back from the
    /// device.
    pub texts: Option<Texts>,
    /// The first position of each row that is no padding, if the caller knows it and there is none
    /// after it. Otherwise the mask of a pass over a cache is read back from the device, or applied
    /// there.
    pub first_keys: Option<FirstKeys>,
    /// What is prepended to every row, or to every text of a packed row, by methods that act at the
    /// model. `position_ids` have to begin after it. [`PeftModel`](burn_peft::PeftModel) takes care
    /// of both.
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
            first_keys: None,
            extra: Extra::default(),
        }
    }

    /// The attention mask over `total` positions, `[batch, total]`: what is prepended to the text
    /// is visible to all of it.
    pub(crate) fn full_attention_mask(&self, total: usize) -> Option<Tensor<2, Int>> {
        let mask = self.attention_mask.clone()?;
        let [batch, given] = mask.dims();
        let ones = |count| Tensor::<2, Int>::ones([batch, count], &mask.device());
        Some(match total.saturating_sub(given) {
            0 => mask,
            missing => Tensor::cat(vec![ones(missing), mask], 1),
        })
    }

    /// Removes the hidden states of extra positions: from `[batch * (extra + seq), d]` to `[batch *
    /// seq, d]`.
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

/// The positions for which a padded row gives the same results as without its padding: they count
/// tokens only (transformers' `generate`). `attention_mask` and result: `[batch, seq]`.
pub fn position_ids(attention_mask: Tensor<2, Int>) -> Tensor<2, Int> {
    (attention_mask.cumsum(1) - 1).clamp_min(0)
}

/// The result of one forward and backward pass.
pub struct Checkpointed {
    /// The loss, `[1]`, without its graph.
    pub loss: Tensor<1>,
    /// The gradients of the parameters.
    pub gradients: GradientsParams,
    /// The gradients of the batch's [`extra`](ModelInput::extra), in the same form.
    pub extra: Extra,
}

/// A causal language model: logits, loss and cached decoding.
///
/// Implemented by every family, and by [`PeftModel`](burn_peft::PeftModel) around any of them.
pub trait CausalLm: Module + ModuleDisplay + Sync {
    /// The logits of every position, `[batch, seq, vocab]`; for a classifier `[batch, seq,
    /// labels]`; for a model without a head the hidden states, `[batch, seq, d]`. Extra positions
    /// that run through the model have logits too, before those of the tokens (as in PEFT).
    ///
    /// # Panics
    /// If a token id or a position is outside of the model's range: check ids against
    /// [`vocab_size`](Self::vocab_size) and lengths against [`max_positions`](Self::max_positions).
    fn forward(&self, input: ModelInput) -> Tensor<3>;

    /// The logits of the last position of every row, `[batch, vocab]`, given a cache of the earlier
    /// positions, to which this input is added.
    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2>;

    /// The logits at some indices of a batch's flattened rows, `[places, vocab]`; for a classifier
    /// `[places, labels]`; for a model without a head the hidden states there, `[places, d]`.
    fn logits_at(&self, batch: &LmBatch, places: &[usize]) -> Tensor<2>;

    /// The head, with the labels that a classifier scores.
    fn head(&self) -> Head {
        Head::default()
    }

    /// Whether it predicts each token from the tokens before it. An encoder does not;
    /// [`loss`](Self::loss), [`token_log_probs`](Self::token_log_probs) and a cache are then of no
    /// use.
    fn is_causal(&self) -> bool {
        true
    }

    /// The *sum* of the cross-entropy over the batch's supervised tokens, `[1]`.
    ///
    /// Never holds tokens × vocabulary at once: see [`vocabulary_loss`](crate::vocabulary_loss).
    fn loss(&self, batch: &LmBatch) -> Tensor<1>;

    /// The log-probabilities of the batch's supervised tokens, `[count]`, text after text; with
    /// `statistics`, also a summary of the distribution over all tokens at each of them.
    ///
    /// Never holds tokens × vocabulary at once: see [`token_log_probs`](crate::token_log_probs).
    fn token_log_probs(&self, batch: &LmBatch, statistics: bool) -> TokenLogProbs;

    /// `weight` times the loss, with its gradients, while only one block's activations are in
    /// memory at a time (gradient checkpointing), at the cost of a second forward pass. `None` if
    /// the model cannot do this; use [`loss`](Self::loss) then.
    fn checkpointed_backward(&self, _batch: &LmBatch, _weight: f64) -> Option<Checkpointed> {
        None
    }

    /// As [`checkpointed_backward`](Self::checkpointed_backward), for a loss, `[1]`, computed from
    /// the [log-probabilities](Self::token_log_probs).
    fn checkpointed_log_probs(
        &self,
        _batch: &LmBatch,
        _statistics: bool,
        _loss: &dyn Fn(TokenLogProbs) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        None
    }

    /// As [`checkpointed_backward`](Self::checkpointed_backward), for a loss computed from the
    /// [logits at some places](Self::logits_at).
    fn checkpointed_logits_at(
        &self,
        _batch: &LmBatch,
        _places: &[usize],
        _loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        None
    }

    /// The number of positions that the model has for tokens.
    fn max_positions(&self) -> usize;

    /// Whether positions end at [`max_positions`](Self::max_positions), as learnt positions do.
    /// Rotary ones do not, though the model was not trained for more.
    fn has_last_position(&self) -> bool {
        true
    }

    /// Whether a text that has grown to `total` positions has to be recomputed, because its first
    /// `past` cached positions were computed differently. transformers does so for Phi-3, whose
    /// frequencies change for long texts.
    fn outgrows_cache(&self, _past: usize, _total: usize) -> bool {
        false
    }

    /// Whether the common beginning of texts of `a` and of `b` positions is computed alike, so that
    /// what is cached for one serves the other. It is not if frequencies depend on the length of a
    /// text.
    fn computes_alike(&self, _a: usize, _b: usize) -> bool {
        true
    }

    /// The key of `config.json` for [`max_positions`](Self::max_positions).
    fn positions_key(&self) -> &'static str {
        "max_position_embeddings"
    }

    /// The positions that an adapter uses, which are not counted in
    /// [`max_positions`](Self::max_positions).
    fn adapter_positions(&self) -> usize {
        0
    }

    /// The number of tokens in the vocabulary.
    fn vocab_size(&self) -> usize;

    /// The text of its `config.json`, if it has one: together with the weights it identifies the
    /// base of a run.
    fn config_json(&self) -> Option<String> {
        None
    }

    /// The device of the weights.
    fn device(&self) -> Device;
}

/// Forwards all methods of [`CausalLm`] in an `impl CausalLm`. `$each!(self, model => …)` runs an
/// expression on the model that is inside. A new method of the trait gets a line here.
macro_rules! forward_causal_lm {
    ($each:ident) => {
        fn forward(&self, input: ModelInput) -> Tensor<3> {
            $each!(self, model => CausalLm::forward(model, input))
        }

        fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2> {
            $each!(self, model => CausalLm::forward_cached(model, input, cache))
        }

        fn logits_at(&self, batch: &LmBatch, places: &[usize]) -> Tensor<2> {
            $each!(self, model => CausalLm::logits_at(model, batch, places))
        }

        fn head(&self) -> Head {
            $each!(self, model => CausalLm::head(model))
        }

        fn is_causal(&self) -> bool {
            $each!(self, model => CausalLm::is_causal(model))
        }

        fn loss(&self, batch: &LmBatch) -> Tensor<1> {
            $each!(self, model => CausalLm::loss(model, batch))
        }

        fn token_log_probs(&self, batch: &LmBatch, statistics: bool) -> TokenLogProbs {
            $each!(self, model => CausalLm::token_log_probs(model, batch, statistics))
        }

        fn checkpointed_backward(&self, batch: &LmBatch, weight: f64) -> Option<Checkpointed> {
            $each!(self, model => CausalLm::checkpointed_backward(model, batch, weight))
        }

        fn checkpointed_logits_at(
            &self,
            batch: &LmBatch,
            places: &[usize],
            loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
        ) -> Option<Checkpointed> {
            $each!(self, model => CausalLm::checkpointed_logits_at(model, batch, places, loss))
        }

        fn checkpointed_log_probs(
            &self,
            batch: &LmBatch,
            statistics: bool,
            loss: &dyn Fn(TokenLogProbs) -> Tensor<1>,
        ) -> Option<Checkpointed> {
            $each!(self, model => CausalLm::checkpointed_log_probs(model, batch, statistics, loss))
        }

        fn max_positions(&self) -> usize {
            $each!(self, model => CausalLm::max_positions(model))
        }

        fn outgrows_cache(&self, past: usize, total: usize) -> bool {
            $each!(self, model => CausalLm::outgrows_cache(model, past, total))
        }

        fn computes_alike(&self, a: usize, b: usize) -> bool {
            $each!(self, model => CausalLm::computes_alike(model, a, b))
        }

        fn has_last_position(&self) -> bool {
            $each!(self, model => CausalLm::has_last_position(model))
        }

        fn positions_key(&self) -> &'static str {
            $each!(self, model => CausalLm::positions_key(model))
        }

        fn adapter_positions(&self) -> usize {
            $each!(self, model => CausalLm::adapter_positions(model))
        }

        fn vocab_size(&self) -> usize {
            $each!(self, model => CausalLm::vocab_size(model))
        }

        fn config_json(&self) -> Option<String> {
            $each!(self, model => CausalLm::config_json(model))
        }

        fn device(&self) -> Device {
            $each!(self, model => CausalLm::device(model))
        }
    };
}

pub(crate) use forward_causal_lm;
