//! The forward and backward passes of a step, over all its batches.

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::train::Learner;
use burn_peft::{among_threads, is_gpu, set_seed, with_first_row, with_seed, without_dropout};

use crate::run::loader::MicroBatch;
use crate::run::state::step_seed;
use crate::run::step::Trainee;
use crate::run::target::TrainTarget;

/// The result of a step's passes.
pub(crate) struct Backward {
    /// The mean loss over all batches, `[1]`.
    pub mean_loss: Tensor<1>,
    /// Its gradients.
    pub gradients: GradientsParams,
    /// What the objective measures besides the loss, summed over the batches, `[sums]`.
    pub sums: Option<Tensor<1>>,
    /// The sum of the batches' `Objective::count`.
    pub count: usize,
    /// What the sum of the losses was divided by; 0 where the sum itself was taken.
    pub denominator: f64,
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
    let there = window.iter().filter(|item| !item.batch.is_empty());
    let counts = there.clone();
    let counts = counts.map(|item| item.objective.count(&item.batch));
    let count: usize = counts.sum();
    let denominators = there.map(|item| item.objective.denominator(&item.batch));
    let denominator: f64 = denominators.sum();
    let weight = if denominator > 0.0 {
        1.0 / denominator
    } else {
        1.0
    };
    let seed = step_seed(seed, step);
    let device = model.model.device();
    // The number of tokens in the batches before this one.
    let mut before = 0;
    for mut batch in window {
        let first = before + batch.first_token;
        before += batch.ends.unwrap_or_default();
        if batch.batch.is_empty() {
            continue;
        }
        // Burn's own dropout and random tensors, where a method uses them, follow this seed.
        set_seed(seed, &device);
        batch.weight = weight;
        let drops = !batch.objective.disables_dropout();
        let run = || {
            if drops {
                learner.train_step(batch)
            } else {
                without_dropout(|| learner.train_step(batch))
            }
        };
        let pass = || with_first_row(first, || with_seed(seed, run));
        let output = if is_gpu(&device) {
            pass()
        } else {
            among_threads(pass)
        };
        losses.extend(output.item.loss);
        if let Some(more) = output.item.sums {
            sums = Some(match sums {
                Some(sums) => sums + more,
                None => more,
            });
        }
        accumulator.accumulate(&model, output.grads);
    }
    let mean_loss = match losses.len() {
        0 => Tensor::zeros([1], &model.model.device().without_autodiff()),
        1 => losses.remove(0),
        _ => Tensor::cat(losses, 0).sum(),
    };
    Backward {
        mean_loss,
        gradients: accumulator.grads(),
        sums,
        count,
        denominator,
    }
}
