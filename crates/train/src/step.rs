//! A model as Burn's `Learner` sees it: one forward and backward pass over a batch.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Tensor};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use crate::loader::MicroBatch;
use crate::metrics::StepMetrics;
use crate::target::TrainTarget;

/// A model in training.
#[derive(Module, Debug)]
pub struct Trainee<T: Module> {
    /// The model.
    pub model: T,
}

/// What a pass gives; the strategy adds what Burn's metrics show.
#[derive(Debug)]
pub struct StepOutput {
    /// The sum of the losses times the batch's weight, `[1]`, on the device without its graph.
    pub loss: Tensor<1>,
    /// What is shown of an optimizer step, or of a batch of an evaluation.
    pub metrics: StepMetrics,
}

impl<T: TrainTarget> TrainStep for Trainee<T> {
    type Input = MicroBatch;
    type Output = StepOutput;

    fn step(&self, item: MicroBatch) -> TrainOutput<StepOutput> {
        let loss = self.model.loss(&item.batch) * item.weight;
        let output = StepOutput {
            loss: loss.clone().inner(),
            metrics: StepMetrics::default(),
        };
        if !loss.is_tracked() {
            // It depends on nothing that is trained, which the guard of the first step reports.
            return TrainOutput {
                grads: GradientsParams::new(),
                item: output,
            };
        }
        TrainOutput::new(self, loss.backward(), output)
    }
}

impl<T: TrainTarget> InferenceStep for Trainee<T> {
    type Input = MicroBatch;
    type Output = StepOutput;

    fn step(&self, item: MicroBatch) -> StepOutput {
        let loss = self.model.loss(&item.batch) * item.weight;
        StepOutput {
            loss,
            metrics: StepMetrics::default(),
        }
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        // The strategy has read what the metrics need.
        Ok(self)
    }
}

impl Adaptor<StepMetrics> for StepOutput {
    fn adapt(&self) -> StepMetrics {
        self.metrics
    }
}
