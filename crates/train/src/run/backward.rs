//! The passes of a step, forward and backward, over all of its batches.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::train::Learner;
use burn_peft::{set_seed, with_seed, without_dropout};

use crate::run::loader::MicroBatch;
use crate::run::state::step_seed;
use crate::run::step::Trainee;
use crate::run::target::TrainTarget;

/// What the passes of a step give.
pub(crate) struct Backward {
    /// The mean loss over all batches, `[1]`.
    pub mean_loss: Tensor<1>,
    /// Its gradients.
    pub gradients: GradientsParams,
    /// What the objective measures beside it, summed over the batches, `[sums]`.
    pub sums: Option<Tensor<1>>,
    /// What the batches count for.
    pub count: usize,
}

/// Forward and backward over the batches of a step.
pub(crate) fn backward<T: TrainTarget>(
    learner: &Learner<Trainee<T>>,
    window: Vec<MicroBatch<T>>,
    seed: u64,
    step: usize,
) -> Backward {
    let mut accumulator = GradientsAccumulator::new();
    let mut losses = Vec::new();
    let mut sums: Option<Tensor<1>> = None;
    let model = learner.model();
    let counts = window.iter().map(|item| item.objective.count(&item.batch));
    let count: usize = counts.sum();
    let denominators = window
        .iter()
        .map(|item| item.objective.denominator(&item.batch));
    let denominator: f64 = denominators.sum();
    for (index, mut batch) in window.into_iter().enumerate() {
        let seed = step_seed(seed, step, index);
        // For Burn's own dropout and random tensors too, where a method has them.
        set_seed(seed, &model.model.device());
        batch.weight = if denominator > 0.0 {
            1.0 / denominator
        } else {
            1.0
        };
        let drops = !batch.objective.disables_dropout();
        let output = with_seed(seed, || {
            if drops {
                learner.train_step(batch)
            } else {
                without_dropout(|| learner.train_step(batch))
            }
        });
        losses.extend(output.item.loss);
        if let Some(more) = output.item.sums {
            sums = Some(match sums {
                Some(sums) => sums + more,
                None => more,
            });
        }
        accumulator.accumulate(&model, output.grads);
    }
    Backward {
        mean_loss: Tensor::cat(losses, 0).sum(),
        gradients: accumulator.grads(),
        sums,
        count,
    }
}
