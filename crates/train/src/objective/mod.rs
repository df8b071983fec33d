//! Objectives: what is learnt of the rows, the loss of a batch, what an evaluation measures. An
//! objective is a file here, named in this one, in `registry.rs` and in `lib.rs`.

pub(crate) mod best_metric;
pub(crate) mod by_class;
pub(crate) mod classify;
pub(crate) mod comparing;
mod comparisons;
pub(crate) mod embed;
pub(crate) mod entities;
pub(crate) mod heads;
pub(crate) mod label_weights;
pub(crate) mod lm;
pub(crate) mod metric;
pub(crate) mod preference;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod reward;
pub(crate) mod scoring;
pub(crate) mod tag;
pub(crate) mod weighted;

#[cfg(test)]
mod tests;

use burn::tensor::Tensor;
use burn_peft_data::{Batch, Examples, Task};
use burn_peft_models::Checkpointed;

use crate::error::{Result, TrainError};
use crate::objective::by_class::ByClass;
use crate::objective::metric::{Measures, Sums};

/// What a model `M` is trained for. Its [`Task`] says what becomes of rows, and which of their
/// labels count.
///
/// [`Lm`](burn_peft_data::Lm) is the objective of every [`CausalLm`](burn_peft_models::CausalLm).
/// `docs/adding-an-objective.md` has another example.
pub trait Objective<M>: Task {
    /// What an evaluation measures, and the names of the metrics.
    fn measures(&self) -> &'static Measures;

    /// The number of [units](Measures::unit) that the loss of a batch is a sum over.
    fn count(&self, batch: &Batch) -> usize {
        let labels = batch.example_labels();
        labels.map(|labels| self.supervised(labels)).sum()
    }

    /// The batch's part of the divisor of the loss, which is summed over all batches of an
    /// optimizer step: its [count](Self::count), unless units have different weights.
    fn denominator(&self, batch: &Batch) -> f64 {
        self.count(batch) as f64
    }

    /// The fewest rows of a batch that the loss can be computed from. A last batch with fewer rows
    /// is used all the same.
    fn least_batch(&self) -> usize {
        1
    }

    /// The *sum* of the losses of a batch, `[1]`, on the device of the model.
    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1>;

    /// As [`loss`](Self::loss), with what a training step measures besides.
    fn measured_loss(&self, model: &M, batch: &Batch) -> MeasuredLoss {
        MeasuredLoss {
            loss: self.loss(model, batch),
            sums: None,
        }
    }

    /// Whether training turns off dropout, in the adapter and in the model.
    fn disables_dropout(&self) -> bool {
        false
    }

    /// Prepares the training and evaluation data once, before the first step.
    ///
    /// # Errors
    /// If the device fails.
    fn prepare(&self, _data: &[&Examples], _batch_size: usize) -> Result<()> {
        Ok(())
    }

    /// What the numbers of a run depend on, apart from the objective's configuration: a run can be
    /// resumed only if it is the same.
    fn identity(&self) -> Option<String> {
        None
    }

    /// `weight` times the loss, with its gradients, computed one block of the model at a time
    /// (gradient checkpointing). `None` if the objective or the model cannot do this.
    fn checkpointed_backward(
        &self,
        _model: &M,
        _batch: &Batch,
        _weight: f64,
    ) -> Option<Checkpointed> {
        None
    }

    /// As [`checkpointed_backward`](Self::checkpointed_backward), with what a training step
    /// measures besides the loss, as [`measured_loss`](Self::measured_loss) does.
    fn measured_backward(
        &self,
        model: &M,
        batch: &Batch,
        weight: f64,
    ) -> Option<(Checkpointed, Option<Tensor<1>>)> {
        let result = self.checkpointed_backward(model, batch, weight)?;
        Some((result, None))
    }

    /// The results for each label, from the sums of an evaluation, if there are labels.
    fn by_class(&self, _sums: &Sums) -> Option<ByClass> {
        None
    }

    /// Completes the sums of a whole evaluation with what needs all of its rows together.
    ///
    /// # Errors
    /// If the device fails.
    fn finish(&self, _model: &M, _sums: &mut Sums) -> Result<()> {
        Ok(())
    }

    /// The sums of an evaluation over a batch: the loss, and the sums that [`Measures::sums`]
    /// names. The model is without dropout and gradients.
    ///
    /// # Errors
    /// If the device fails.
    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        let MeasuredLoss { loss, sums } = self.measured_loss(model, batch);
        let all = match sums {
            Some(sums) => Tensor::cat(vec![loss, sums], 0),
            None => loss,
        };
        let mut numbers = read_all(all)?.into_iter();
        Ok(Sums {
            loss: numbers.next().unwrap_or(f64::NAN),
            count: self.count(batch),
            sums: numbers.collect(),
            ..Sums::default()
        })
    }
}

/// The loss of a batch, and what is measured with it.
#[derive(Clone, Debug)]
pub struct MeasuredLoss {
    /// The *sum* of the losses, `[1]`.
    pub loss: Tensor<1>,
    /// The sums that [`Measures::sums`] names, without a graph, `[sums]`. `None` if training
    /// measures only the loss.
    pub sums: Option<Tensor<1>>,
}

/// Reads numbers from the device in one transfer, row after row.
///
/// # Errors
/// If the device fails.
pub fn read_all<const D: usize>(numbers: Tensor<D>) -> Result<Vec<f64>> {
    let numbers = numbers.try_into_data();
    let numbers = numbers.map_err(|error| TrainError::Device(error.to_string()))?;
    Ok(numbers.iter::<f64>().collect())
}

/// Reads a number, `[1]`, from the device.
///
/// # Errors
/// If the device fails.
pub fn read(number: Tensor<1>) -> Result<f64> {
    let number = number.try_into_scalar();
    number.map_err(|error| TrainError::Device(error.to_string()))
}
