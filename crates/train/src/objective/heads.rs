//! Computing the scores of classifiers for batches.

use burn::tensor::Tensor;
use burn_peft_data::{Batch, Classes};
use burn_peft_models::{CausalLm, Checkpointed, LmBatch, Ragged};

/// The scores of each text of a batch, `[texts, labels]`, at the token that a text is judged by.
pub fn scores<M: CausalLm>(model: &M, batch: &Batch) -> Tensor<2> {
    model.logits_at(&typed(model, batch), &judged(model, batch))
}

/// A forward and backward pass of a loss computed from the [`scores`], one block of the model at a
/// time.
pub(crate) fn checkpointed<M: CausalLm>(
    model: &M,
    batch: &Batch,
    loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
) -> Option<Checkpointed> {
    let places = judged(model, batch);
    model.checkpointed_logits_at(&typed(model, batch), &places, loss)
}

/// The tokens that the texts are judged by, as indices into the batch.
fn judged<M: CausalLm>(model: &M, batch: &Batch) -> Vec<usize> {
    let head = model.head();
    let spans = batch.spans.iter();
    let places = spans.map(|span| span.start + head.judged_token(&batch.input_ids[span.clone()]));
    places.collect()
}

/// A batch of labelled texts on the device of a model, with token types that tell two texts of a
/// row apart.
fn typed<M: CausalLm>(model: &M, batch: &Batch) -> LmBatch {
    let types = Classes::token_types(batch);
    LmBatch::ragged_of_types(&ragged(batch), types, &model.device())
}

/// A batch on the device of a model, none of whose tokens are predicted.
pub(crate) fn on_device<M: CausalLm>(model: &M, batch: &Batch) -> LmBatch {
    LmBatch::ragged(&ragged(batch), &model.device())
}

fn ragged(batch: &Batch) -> Ragged<'_> {
    Ragged {
        input_ids: &batch.input_ids,
        // The task's labels are not tokens; these leave the padding out.
        labels: &batch.input_ids,
        texts: &batch.spans,
        packed: batch.packed.as_deref(),
        width: batch.width,
        pad_id: batch.pad_id,
    }
}
