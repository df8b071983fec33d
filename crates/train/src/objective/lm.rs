//! The objective of a language model: every token is predicted from those before it.

use burn::tensor::{Device, Tensor};
use burn_peft_data::{Batch, Lm};
use burn_peft_models::{CausalLm, Checkpointed, LmBatch, Ragged};

use crate::objective::Objective;
use crate::objective::metric::{Measures, Metric};
use crate::seeing::numbers::perplexity;

/// What an evaluation of a language model measures.
pub static MEASURES: Measures = Measures {
    unit: "token",
    sums: &[],
    metrics: &[
        Metric::loss("loss (nats per token)"),
        Metric {
            name: "perplexity",
            title: "perplexity",
            heading: "perplexity",
            greater_is_better: false,
            of: |sums| sums.mean_loss().exp(),
            text: perplexity,
            short: perplexity,
        },
    ],
};

/// What a report takes where it is told of no other.
impl Default for &'static Measures {
    fn default() -> Self {
        &MEASURES
    }
}

impl<M: CausalLm> Objective<M> for Lm {
    fn measures(&self) -> &'static Measures {
        &MEASURES
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        model.loss(&on_device(batch, &model.device()))
    }

    fn checkpointed_backward(&self, model: &M, batch: &Batch, weight: f64) -> Option<Checkpointed> {
        model.checkpointed_backward(&on_device(batch, &model.device()), weight)
    }
}

/// A batch on a device, for a language model: [`as_matrix`](LmBatch::as_matrix) makes it one of rows.
///
/// # Panics
/// If the batch has no tokens.
pub fn on_device(batch: &Batch, device: &Device) -> LmBatch {
    let ragged = Ragged {
        input_ids: &batch.input_ids,
        labels: &batch.labels,
        texts: &batch.spans,
        packed: batch.packed.as_deref(),
        width: batch.width,
        pad_id: batch.pad_id,
    };
    LmBatch::ragged(&ragged, device)
}
