//! What a causal language model answers, whatever its family.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Int, Tensor};

use crate::{KvCache, LmBatch};

/// The input of a forward pass.
#[derive(Clone, Debug)]
pub struct ModelInput {
    /// Token ids, `[batch, seq]`.
    pub input_ids: Tensor<2, Int>,
    /// 1 for a token, 0 for padding, on either side: `[batch, seq]`, or `[batch, past + seq]`
    /// with a cache. Without it every position is a token.
    pub attention_mask: Option<Tensor<2, Int>>,
    /// The positions of the tokens, `[batch, seq]`. Without it they count from the start of the
    /// row, padding included, as in transformers; see [`position_ids`] for left-padded rows.
    pub position_ids: Option<Tensor<2, Int>>,
    /// Which of several packed texts a token belongs to, `[batch, seq]`: it attends to those of
    /// its own number only. `position_ids` have to start anew with each, and there is neither an
    /// `attention_mask` (padding is a text of its own) nor a cache.
    pub segment_ids: Option<Tensor<2, Int>>,
}

impl ModelInput {
    /// Rows without padding: `input_ids` `[batch, seq]`.
    pub fn new(input_ids: Tensor<2, Int>) -> Self {
        Self {
            input_ids,
            attention_mask: None,
            position_ids: None,
            segment_ids: None,
        }
    }
}

/// The positions that make a padded row compute what it computes without its padding: they count
/// tokens only (transformers' `generate`). `attention_mask` and result: `[batch, seq]`.
pub fn position_ids(attention_mask: Tensor<2, Int>) -> Tensor<2, Int> {
    (attention_mask.cumsum(1) - 1).clamp_min(0)
}

/// A causal language model: logits, loss and cached decoding.
///
/// Implemented by every family, and by [`PeftModel`](burn_peft::PeftModel) around any of them.
pub trait CausalLm: Module + ModuleDisplay {
    /// The logits of every position, `[batch, seq, vocab]`.
    ///
    /// # Panics
    /// If a token id or a position is none of the model's: check ids against
    /// [`vocab_size`](Self::vocab_size) and lengths against [`max_positions`](Self::max_positions).
    fn forward(&self, input: ModelInput) -> Tensor<3>;

    /// The logits of the last position of every row, `[batch, vocab]`, given a cache of the
    /// positions before, which grows by this input.
    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2>;

    /// The *sum* of the cross-entropy over the batch's supervised tokens, `[1]`.
    ///
    /// Never holds tokens × vocabulary at once: see [`vocabulary_loss`](crate::vocabulary_loss).
    fn loss(&self, batch: &LmBatch) -> Tensor<1>;

    /// The number of positions the model knows.
    fn max_positions(&self) -> usize;

    /// The number of tokens the model knows.
    fn vocab_size(&self) -> usize;

    /// The device of the weights.
    fn device(&self) -> Device;
}
