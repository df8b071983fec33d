//! The objective of a language model: every token is predicted from the tokens before it.

use burn::tensor::{Device, Tensor};
use burn_peft_data::{Batch, Lm};
use burn_peft_models::{CausalLm, Checkpointed, LmBatch, Ragged};

use crate::objective::Objective;
use crate::objective::metric::{Measures, Metric};
use crate::seeing::numbers::perplexity;

// The data are labelled as the model reads them.
const _: () = assert!(burn_peft_data::IGNORE_INDEX == burn_peft_models::IGNORE_INDEX);

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

/// The default metrics of a report.
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

/// As [`on_device`], but what the examples of one row of the data have in common at the start, such
/// as the prompt of two answers, is computed once if the model computes it alike in each.
///
/// # Panics
/// If the batch has no tokens.
pub fn on_device_sharing<M: CausalLm>(model: &M, batch: &Batch) -> LmBatch {
    let row_of = |example: &usize| (batch.sets.get(*example), batch.rows.get(*example));
    let examples: Vec<usize> = (0..batch.spans.len()).collect();
    let shares = |a: &usize, b: &usize| {
        let [a_len, b_len] = [a, b].map(|&example| batch.spans[example].len());
        row_of(a).1.is_some() && row_of(a) == row_of(b) && model.computes_alike(a_len, b_len)
    };
    let groups: Vec<_> = examples
        .chunk_by(shares)
        .map(|group| group[0]..group[0] + group.len())
        .collect();
    LmBatch::sharing(&ragged(batch), &groups, &model.device())
}

/// A batch on a device, for a language model; with [`as_matrix`](LmBatch::as_matrix) it becomes a
/// matrix of rows.
///
/// # Panics
/// If the batch has no tokens.
pub fn on_device(batch: &Batch, device: &Device) -> LmBatch {
    LmBatch::ragged(&ragged(batch), device)
}

fn ragged(batch: &Batch) -> Ragged<'_> {
    Ragged {
        input_ids: &batch.input_ids,
        labels: &batch.labels,
        texts: &batch.spans,
        packed: batch.packed.as_deref(),
        width: batch.width,
        pad_id: batch.pad_id,
    }
}
