//! A model as Burn's `Learner` sees it: one forward and backward pass over a batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{ExecutionError, Tensor};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, Learner, TrainOutput, TrainStep};
use burn_peft::LoraFa;

use crate::lock::lock;
use crate::objective::MeasuredLoss;
use crate::optimizer::flat::Flat;
use crate::optimizer::grads::clip;
use crate::optimizer::trained::Trained;
use crate::run::loader::MicroBatch;
use crate::run::target::TrainTarget;
use crate::seeing::metrics::StepMetrics;

/// Trained weights, and values for them.
type Weights = (Trained, Vec<f32>);

/// A model in training.
#[derive(Module, Debug)]
pub struct Trainee<T: Module> {
    /// The model.
    pub model: T,
    /// Where [`optimize`](TrainStep::optimize) puts the optimizer's state when asked for it.
    #[module(skip)]
    optimizer: Arc<Mutex<Option<OptimizerRecord>>>,
    /// New weights for [`optimize`](TrainStep::optimize) to set.
    #[module(skip)]
    weights: Arc<Mutex<Option<Weights>>>,
    #[module(skip)]
    gradient_checkpointing: bool,
    /// Corrects gradients before a step, with `optim = "lorafa"`.
    #[module(skip)]
    lora_fa: Option<Arc<LoraFa>>,
    /// The number of the next optimizer step, from 1.
    #[module(skip)]
    next_step: Arc<AtomicUsize>,
    /// The norm of the next step's gradients, and the norm that they are clipped to.
    #[module(skip)]
    clipping: Arc<Mutex<Option<(Tensor<1>, f64)>>>,
    /// Makes the steps in place of Burn's optimizer, on GPUs.
    #[module(skip)]
    flat: Option<Arc<Mutex<Flat>>>,
}

impl<T: Module> Trainee<T> {
    /// Wraps a model in training mode (`Module::train`).
    pub fn new(model: T, gradient_checkpointing: bool) -> Self {
        Self {
            model,
            optimizer: Arc::default(),
            weights: Arc::default(),
            gradient_checkpointing,
            lora_fa: None,
            next_step: Arc::default(),
            clipping: Arc::default(),
            flat: None,
        }
    }

    /// Updates all parameters at once where possible.
    pub(crate) fn with_flat(mut self, flat: Option<Flat>) -> Self {
        self.flat = flat.map(|flat| Arc::new(Mutex::new(flat)));
        self
    }

    /// Has the next step's gradients, whose norm is `norm` (`[1]`), clipped on the device.
    pub(crate) fn set_clipping(&self, norm: Tensor<1>, max_norm: f64) {
        *lock(&self.clipping) = Some((norm, max_norm));
    }

    /// Corrects gradients before every step.
    pub(crate) fn with_lora_fa(mut self, lora_fa: LoraFa) -> Self {
        self.lora_fa = Some(Arc::new(lora_fa));
        self
    }

    /// Sets the number of the next optimizer step, from 1.
    pub(crate) fn set_next_step(&self, step: usize) {
        self.next_step.store(step, Ordering::Relaxed);
    }
}

/// The state of a learner's optimizer. Burn's `Learner` keeps it to itself, but hands the optimizer
/// to the model at every step. A step without gradients changes nothing and reads the state.
pub(crate) fn optimizer_record<T: TrainTarget>(
    learner: &mut Learner<Trainee<T>>,
) -> OptimizerRecord {
    learner.optimizer_step(GradientsParams::new());
    let slot = learner.model().optimizer;
    let mut slot = lock(&slot);
    slot.take().unwrap_or_default()
}

/// Sets all trained weights, also in a step without gradients: a learner's model cannot be changed
/// otherwise.
pub(crate) fn set_weights<T: TrainTarget>(
    learner: &mut Learner<Trainee<T>>,
    trained: &Trained,
    weights: Vec<f32>,
) {
    let slot = learner.model().weights;
    let mut slot = lock(&slot);
    *slot = Some((trained.clone(), weights));
    drop(slot);
    learner.optimizer_step(GradientsParams::new());
}

/// The result of a pass; the strategy adds what Burn's metrics show.
#[derive(Debug)]
pub struct StepOutput {
    /// The sum of the losses times the batch's weight, `[1]`, on the device without its graph.
    /// `None` if the output is only shown.
    pub loss: Option<Tensor<1>>,
    /// What is measured besides the loss, `[sums]`, on the device.
    pub sums: Option<Tensor<1>>,
    /// What is shown for an optimizer step, or for a batch of an evaluation.
    pub metrics: StepMetrics,
}

impl<T: TrainTarget> TrainStep for Trainee<T> {
    type Input = MicroBatch<T>;
    type Output = StepOutput;

    fn step(&self, item: MicroBatch<T>) -> TrainOutput<StepOutput> {
        // Over all batches of a step, the shares sum up to one.
        let share = item.weight * item.objective.denominator(&item.batch);
        let regularizer = self.model.regularizer().map(|term| term * share);
        if self.gradient_checkpointing
            && let Some((result, sums)) =
                item.objective
                    .measured_backward(&self.model, &item.batch, item.weight)
        {
            let (mut loss, mut grads) = (result.loss, result.gradients);
            if let Some(term) = regularizer {
                loss = loss + term.clone().inner();
                let mut sum = GradientsAccumulator::new();
                sum.accumulate(self, grads);
                sum.accumulate(self, GradientsParams::from_grads(term.backward(), self));
                grads = sum.grads();
            }
            let metrics = StepMetrics::default();
            let loss = Some(loss);
            let item = StepOutput {
                loss,
                sums,
                metrics,
            };
            return TrainOutput { grads, item };
        }
        let MeasuredLoss { loss, sums } = item.objective.measured_loss(&self.model, &item.batch);
        let mut loss = loss * item.weight;
        if let Some(term) = regularizer {
            loss = loss + term;
        }
        let output = StepOutput {
            loss: Some(loss.clone().inner()),
            sums: sums.map(Tensor::inner),
            metrics: StepMetrics::default(),
        };
        if !loss.is_tracked() {
            // The loss depends on nothing that is trained; the check of the first step reports
            // that.
            return TrainOutput {
                grads: GradientsParams::new(),
                item: output,
            };
        }
        TrainOutput::new(self, loss.backward(), output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> Self {
        if gradients.is_empty() {
            let weights = lock(&self.weights).take();
            if let Some((trained, values)) = weights {
                return trained.write(self, &values);
            }
            let flat = self.flat.as_ref();
            let record = flat.and_then(|flat| lock(flat).to_record());
            *lock(&self.optimizer) = Some(record.unwrap_or_else(|| optimizer.to_record()));
            return self;
        }
        let mut clipping = lock(&self.clipping).take();
        let mut seen = self.model.step_gradients(&gradients);
        if self.lora_fa.is_some() || self.flat.is_none() || !seen.is_empty() {
            // LoRA-FA and the methods expect clipped gradients.
            if let Some((norm, max_norm)) = clipping.take() {
                clip(&self, &mut gradients, norm, max_norm);
            }
            if let Some(lora_fa) = &self.lora_fa {
                lora_fa.correct(&mut gradients);
            }
            seen = self.model.step_gradients(&gradients);
        }
        let flat = self.flat.clone();
        let stepped = match &flat {
            None => Err(self),
            Some(flat) => lock(flat).step(
                optimizer,
                &learning_rate,
                self,
                &gradients,
                clipping.as_ref(),
            ),
        };
        let mut next = stepped.unwrap_or_else(|model| {
            if let Some((norm, max_norm)) = clipping {
                clip(&model, &mut gradients, norm, max_norm);
            }
            optimizer.step(learning_rate, model, gradients)
        });
        let step = next.next_step.load(Ordering::Relaxed);
        next.model.after_step(step, &seen);
        next
    }
}

impl<T: TrainTarget> InferenceStep for Trainee<T> {
    type Input = MicroBatch<T>;
    type Output = StepOutput;

    fn step(&self, item: MicroBatch<T>) -> StepOutput {
        let loss = item.objective.loss(&self.model, &item.batch) * item.weight;
        StepOutput {
            loss: Some(loss),
            sums: None,
            metrics: StepMetrics::default(),
        }
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        // The strategy has already read what the metrics need.
        Ok(self)
    }
}

impl Adaptor<StepMetrics> for StepOutput {
    fn adapt(&self) -> StepMetrics {
        self.metrics.clone()
    }
}
