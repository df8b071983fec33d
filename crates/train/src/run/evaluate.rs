//! Loss and perplexity over a data set.

use burn::tensor::Tensor;
use burn_peft_data::{Examples, Sampler};
use burn_peft_models::CausalLm;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainError};
use crate::run::loader::to_device;

/// How well a model predicts a data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The mean loss over all supervised tokens, in nats.
    pub loss: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// The supervised tokens.
    pub tokens: usize,
}

/// Evaluates a model, without dropout and without gradients.
///
/// `progress` hears how many examples are done, of how many.
///
/// # Errors
/// If `batch_size` is 0, if a batch does not fit the model, or if the device fails.
pub fn evaluate<M: CausalLm>(
    model: &M,
    examples: &Examples,
    batch_size: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    let model = model.valid();
    let device = model.device();
    let mut sum = LossSum::default();
    let mut done = 0;
    for indices in Sampler::new(examples.sequences(), batch_size, 0, false)?.batches(0) {
        let host = examples.batch(&indices);
        let batch = to_device(&host, &device)?;
        sum.add(read(model.loss(&batch))?, batch.count);
        done += host.rows.len();
        progress(done, examples.len());
    }
    Ok(sum.evaluation())
}

/// Reads a loss `[1]`.
pub(crate) fn read(loss: Tensor<1>) -> Result<f64> {
    loss.try_into_scalar()
        .map_err(|error| TrainError::Device(error.to_string()))
}

/// Losses and tokens added up.
#[derive(Default)]
pub(crate) struct LossSum {
    loss: f64,
    tokens: usize,
}

impl LossSum {
    /// Adds the sum of the losses of a batch.
    pub fn add(&mut self, loss: f64, tokens: usize) {
        self.loss += loss;
        self.tokens += tokens;
    }

    pub fn evaluation(&self) -> Evaluation {
        let loss = self.loss / self.tokens.max(1) as f64;
        Evaluation {
            loss,
            perplexity: loss.exp(),
            tokens: self.tokens,
        }
    }
}
