//! What a model is trained for: what of the rows is learnt, the loss of a batch, what an evaluation
//! measures. An objective is a file here, named in this one, in `registry.rs` and in `lib.rs`.

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

/// What a model `M` is trained for. What becomes of rows, and which of their labels count, is the
/// [`Task`] below it.
///
/// [`Lm`](burn_peft_data::Lm) is the objective of every [`CausalLm`](burn_peft_models::CausalLm).
/// `docs/adding-an-objective.md` has another one as an example.
pub trait Objective<M>: Task {
    /// What an evaluation measures, and how it is called.
    fn measures(&self) -> &'static Measures;

    /// How many [units](Measures::unit) the loss of a batch is a sum over.
    fn count(&self, batch: &Batch) -> usize {
        let labels = batch.example_labels();
        labels.map(|labels| self.supervised(labels)).sum()
    }

    /// What the sum of a batch's losses is divided by, over all batches of an optimizer step: what it
    /// [counts](Self::count) for, unless some of that weighs more than other.
    fn denominator(&self, batch: &Batch) -> f64 {
        self.count(batch) as f64
    }

    /// The fewest rows of a batch that the loss can be made of. Of a last batch with fewer it is made
    /// all the same.
    fn least_batch(&self) -> usize {
        1
    }

    /// The *sum* of the losses of a batch, `[1]`, on the device of the model.
    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1>;

    /// As [`loss`](Self::loss), with what a step of the training measures beside it.
    fn measured_loss(&self, model: &M, batch: &Batch) -> MeasuredLoss {
        MeasuredLoss {
            loss: self.loss(model, batch),
            sums: None,
        }
    }

    /// Whether training leaves out dropout, the adapter's and the model's.
    fn disables_dropout(&self) -> bool {
        false
    }

    /// Does what is done once, before the first step, with the data that are trained and evaluated on.
    ///
    /// # Errors
    /// If the device fails.
    fn prepare(&self, _data: &[&Examples], _batch_size: usize) -> Result<()> {
        Ok(())
    }

    /// What of an objective, beside its configuration, the numbers of a run depend on: a run goes on
    /// only where it is the same.
    fn identity(&self) -> Option<String> {
        None
    }

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

    /// As [`checkpointed_backward`](Self::checkpointed_backward), with what a step of the training
    /// measures beside the loss, as [`measured_loss`](Self::measured_loss) has it.
    fn measured_backward(
        &self,
        model: &M,
        batch: &Batch,
        weight: f64,
    ) -> Option<(Checkpointed, Option<Tensor<1>>)> {
        let result = self.checkpointed_backward(model, batch, weight)?;
        Some((result, None))
    }

    /// What the sums of an evaluation say label by label, where there are labels.
    fn by_class(&self, _sums: &Sums) -> Option<ByClass> {
        None
    }

    /// Makes of the sums of a whole evaluation what all of its rows together are needed for.
    ///
    /// # Errors
    /// If the device fails.
    fn finish(&self, _model: &M, _sums: &mut Sums) -> Result<()> {
        Ok(())
    }

    /// What an evaluation adds up over a batch: the loss, and as many sums as
    /// [`Measures::sums`] names. The model is without dropout and without gradients.
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
    /// As many sums as [`Measures::sums`] names, without a graph, `[sums]`. None where training
    /// measures the loss alone.
    pub sums: Option<Tensor<1>>,
}

/// Reads numbers from the device, in one go: row after row.
///
/// # Errors
/// If the device fails.
pub fn read_all<const D: usize>(numbers: Tensor<D>) -> Result<Vec<f64>> {
    let numbers = numbers.try_into_data();
    let numbers = numbers.map_err(|error| TrainError::Device(error.to_string()))?;
    Ok(numbers.iter::<f64>().collect())
}

/// Reads a number `[1]` from the device.
///
/// # Errors
/// If the device fails.
pub fn read(number: Tensor<1>) -> Result<f64> {
    let number = number.try_into_scalar();
    number.map_err(|error| TrainError::Device(error.to_string()))
}
