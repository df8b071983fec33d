//! What a model is trained for: what of the rows is learnt, the loss of a batch, what an evaluation
//! measures. An objective is a file here, named in this one, in `best_metric.rs` and in `lib.rs`.

pub(crate) mod best_metric;
pub(crate) mod lm;
pub(crate) mod metric;

#[cfg(test)]
mod tests;

use burn::tensor::Tensor;
use burn_peft_data::{Batch, Task};
use burn_peft_models::Checkpointed;

use crate::error::{Result, TrainError};
use crate::objective::metric::{Measures, Sums};

/// What a model `M` is trained for. What becomes of rows, and which of their labels count, is the
/// [`Task`] below it.
///
/// [`Lm`](burn_peft_data::Lm) is the objective of every [`CausalLm`](burn_peft_models::CausalLm).
/// `docs/adding-an-objective.md` has another one as an example.
pub trait Objective<M>: Task {
    /// What an evaluation measures, and how it is called.
    fn measures(&self) -> &'static Measures;

    /// How many [units](Measures::unit) the loss of a batch is a sum over. The losses of all batches
    /// of an optimizer step are added up and divided by all their units.
    fn count(&self, batch: &Batch) -> usize {
        let labels = batch.example_labels();
        labels.map(|labels| self.supervised(labels)).sum()
    }

    /// The *sum* of the losses of a batch, `[1]`, on the device of the model.
    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1>;

    /// `weight` times the loss and its gradients, made one block of the model at a time (gradient
    /// checkpointing). None where the objective or the model cannot do so.
    fn checkpointed_backward(
        &self,
        _model: &M,
        _batch: &Batch,
        _weight: f64,
    ) -> Option<Checkpointed> {
        None
    }

    /// What an evaluation adds up over a batch: the loss, and as many sums as
    /// [`Measures::sums`] names. The model is without dropout and without gradients.
    ///
    /// # Errors
    /// If the device fails.
    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        Ok(Sums {
            loss: read(self.loss(model, batch))?,
            count: self.count(batch),
            sums: Vec::new(),
        })
    }
}

/// Reads a number `[1]` from the device.
///
/// # Errors
/// If the device fails.
pub fn read(number: Tensor<1>) -> Result<f64> {
    let number = number.try_into_scalar();
    number.map_err(|error| TrainError::Device(error.to_string()))
}
