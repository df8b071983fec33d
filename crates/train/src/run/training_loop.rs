//! The training loop: our strategy for Burn's `SupervisedTraining`.
//!
//! It counts optimizer steps, where Burn's own strategies count epochs. Each step draws as many
//! batches as it accumulates, reads one pair of numbers (loss and gradient norm) from the device, and
//! then evaluates, logs and saves as the arguments say. From a GPU the numbers of several steps are read
//! together (`done.rs`), so that the host need not wait for it.

use std::cell::{RefCell, RefMut};
use std::sync::Arc;
use std::time::Instant;

use burn::data::dataloader::DataLoaderIterator;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, ValidLoader,
};

use crate::checkpoint::checkpoints::Checkpoints;
use crate::checkpoint::saved::Saved;
use crate::configuration::arguments::{IntervalStrategy, Steps, TrainingArguments};
use crate::error::{Result, TrainError};
use crate::exchange::Exchange;
use crate::objective::{Objective, read};
use crate::optimizer::grads::{clip_coefficient, global_norm, scale};
use crate::run::backward::{Backward, backward};
use crate::run::evaluate::Evaluation;
use crate::run::loader::MicroBatch;
use crate::run::local_steps::LocalSteps;
use crate::run::places::places;
use crate::run::reduce::Found;
use crate::run::state::TrainState;
use crate::run::step::{StepOutput, Trainee, set_weights};
use crate::run::target::TrainTarget;
use crate::seeing::metrics_file::{EvalLog, MetricsFile};
use crate::seeing::sample::SamplePrompts;
use burn_peft_models::embeddings::Modules;

pub(crate) mod done;
mod evaluation;
mod saving;

use done::{Done, Numbers, Read};

/// The task of a run, and its results.
pub(crate) struct StepStrategy<T> {
    pub exchange: Arc<dyn Exchange>,
    pub objective: Arc<dyn Objective<T>>,
    pub arguments: TrainingArguments,
    pub steps: Steps,
    pub batches_per_epoch: usize,
    /// The files that the rows come from.
    pub files: Vec<String>,
    /// The prompts that are continued after every evaluation.
    pub samples: Option<SamplePrompts>,
    /// What a checkpoint holds of sentence-transformers' files, and the size of the hidden states.
    pub modules: Option<(Modules, usize)>,
    /// What a checkpoint records besides the run's state.
    pub identity: RefCell<Saved>,
    pub record: RefCell<Record>,
    /// The error that ended the run early.
    pub error: RefCell<Option<TrainError>>,
}

/// The results of a run so far.
pub(crate) struct Record {
    pub state: TrainState,
    pub metrics: MetricsFile,
    pub checkpoints: Checkpoints,
    pub evaluations: Vec<EvalLog>,
    /// The last evaluation, with its step.
    pub evaluation: Option<(usize, Evaluation)>,
    /// Whether someone has stopped the run, on this rank or another.
    pub was_stopped: bool,
    /// Present if ranks make steps on their own.
    pub local: Option<LocalSteps>,
}

impl<T: TrainTarget> SupervisedLearningStrategy<Trainee<T>> for StepStrategy<T> {
    fn fit(
        &self,
        components: TrainingComponents<Trainee<T>>,
        learner: Learner<Trainee<T>>,
        train: TrainLoader<Trainee<T>>,
        valid: ValidLoader<Trainee<T>>,
        _starting_epoch: usize,
    ) -> (Trainee<T>, SupervisedTrainingEventProcessor<Trainee<T>>) {
        let mut run = Run {
            arguments: &self.arguments,
            steps: self.steps,
            strategy: self,
            record: self.record.borrow_mut(),
            learner,
            valid,
            events: components.event_processor,
            interrupter: components.interrupter,
            guarded: false,
            told_to_stop: false,
            is_late: false,
            done: Vec::new(),
        };
        run.is_late = run.reads_late();
        if let Err(error) = run.all(train.iter()) {
            run.interrupter.stop(Some("error"));
            *self.error.borrow_mut() = Some(error);
        }
        (run.common_model(), run.events)
    }
}

struct Run<'a, T: TrainTarget> {
    arguments: &'a TrainingArguments,
    steps: Steps,
    strategy: &'a StepStrategy<T>,
    record: RefMut<'a, Record>,
    learner: Learner<Trainee<T>>,
    valid: ValidLoader<Trainee<T>>,
    events: SupervisedTrainingEventProcessor<Trainee<T>>,
    interrupter: Interrupter,
    /// Whether the gradients of the first step have been checked.
    guarded: bool,
    /// With several ranks: whether all know that one of them was told to stop.
    told_to_stop: bool,
    /// Whether the numbers of steps stay on the device until they are shown.
    is_late: bool,
    /// The steps that are done but not yet written down.
    done: Vec<Done>,
}

impl<T: TrainTarget> Run<'_, T> {
    /// Makes all remaining steps, until someone interrupts.
    fn all<'b>(
        &mut self,
        mut batches: Box<dyn DataLoaderIterator<MicroBatch<T>> + 'b>,
    ) -> Result<()> {
        self.keep_best();
        self.start_training();
        if self.evaluation_is_due() {
            // The run was interrupted in the middle of this evaluation.
            self.evaluate(self.record.state.next.epoch as usize)?;
            self.start_training();
        }
        while self.record.state.global_step < self.steps.total
            && !self.record.state.best.is_final(self.arguments)
            && !self.stops()
        {
            let epoch = self.record.state.next.epoch;
            self.step(&mut *batches)?;

            let last = self.record.state.global_step == self.steps.total;
            self.exchange_weights(last)?;
            let epoch_ended = self.record.state.epoch_ended();
            let evaluates = self.evaluation_is_due();
            if epoch_ended || last {
                self.emit(LearnerEvent::EndSplit(epoch as usize + 1));
            }
            if evaluates {
                self.evaluate(epoch as usize + 1)?;
            }
            // As in transformers, `save_strategy = "steps"` also saves the last step.
            let arguments = self.arguments;
            let ends_saved = last && arguments.save_strategy == IntervalStrategy::Steps;
            if self.is_due(arguments.save_strategy, arguments.save_steps) || ends_saved {
                self.save()?;
            }
            let last = last || self.record.state.best.is_final(arguments);
            if epoch_ended || last {
                self.emit(LearnerEvent::EndEpoch(epoch as usize + 1));
            }
            if (epoch_ended || evaluates) && !last {
                self.start_training();
            }
        }
        self.settle()?;
        // All ranks agree on how the run ended before any of them saves: one rank alone may have
        // heard a signal after the last step.
        let exchange = Arc::clone(&self.strategy.exchange);
        let is_told = exchange.any(self.interrupter.should_stop())?;
        self.stop_with_others(is_told);
        self.record.was_stopped = is_told;
        let step = self.record.state.global_step;
        let is_saved = step == 0 || self.record.checkpoints.last() == Some(step);
        let saves = is_told && !is_saved && self.interrupter.interruption().is_some();
        if exchange.any(saves && exchange.is_first())? {
            self.save()?;
        }
        // Everything is written before any rank continues.
        exchange.any(false)?;
        Ok(())
    }

    /// Whether the run stops early, on all ranks alike.
    fn stops(&self) -> bool {
        match self.strategy.exchange.size() {
            1 => self.interrupter.should_stop(),
            _ => self.told_to_stop,
        }
    }

    /// Stops this rank with the others, if one of them was told to.
    fn stop_with_others(&mut self, is_told: bool) {
        self.told_to_stop |= is_told;
        if is_told && !self.interrupter.should_stop() {
            self.interrupter.stop(Some("another rank was told to stop"));
        }
    }

    /// Whether something with this strategy is due after the last step.
    fn is_due(&self, strategy: IntervalStrategy, steps: usize) -> bool {
        let state = &self.record.state;
        match strategy {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => state.global_step.is_multiple_of(steps),
            IntervalStrategy::Epoch => state.epoch_ended(),
        }
    }

    fn evaluation_is_due(&self) -> bool {
        let state = &self.record.state;
        state.evaluated < state.global_step
            && self.is_due(self.arguments.eval_strategy, self.arguments.eval_steps())
    }

    /// The model that all ranks have in common: this rank's, unless the ranks make steps on their
    /// own.
    fn common_model(&self) -> Trainee<T> {
        let model = self.learner.model();
        match &self.record.local {
            Some(local) => local.common(model),
            None => model,
        }
    }

    /// Lets ranks that make steps on their own continue with what all have learnt, if it is time.
    fn exchange_weights(&mut self, is_last: bool) -> Result<()> {
        let step = self.record.state.global_step;
        let Some(local) = &mut self.record.local else {
            return Ok(());
        };
        if is_last || local.is_due(step) {
            let exchange = &*self.strategy.exchange;
            let weights = local.exchange(&self.learner.model(), exchange)?;
            set_weights(&mut self.learner, &local.trained, weights);
        }
        Ok(())
    }

    /// Makes one optimizer step.
    fn step(&mut self, batches: &mut dyn DataLoaderIterator<MicroBatch<T>>) -> Result<()> {
        let started = Instant::now();
        let window = self.draw(batches)?;
        let Some(next) = window.last().map(|batch| batch.next) else {
            self.interrupter.stop(Some("there are no more batches"));
            return Ok(());
        };
        let mut tokens: usize = window.iter().map(|batch| batch.batch.tokens()).sum();
        let rows = places(
            window.iter().map(|batch| &batch.batch),
            &self.strategy.files,
        );

        let Backward {
            mean_loss,
            mut gradients,
            sums,
            mut count,
            denominator,
        } = backward(
            &self.learner,
            window,
            self.arguments.seed,
            self.record.state.global_step,
        );
        let model = self.learner.model();
        let exchange = Arc::clone(&self.strategy.exchange);
        let is_alone = exchange.size() == 1;
        let mut norm = None;
        if is_alone {
            self.guard(&gradients)?;
            norm = global_norm(&model, &gradients);
        }
        let numbers = [Some(mean_loss.clone()), norm.clone(), sums];
        let numbers = Tensor::cat(numbers.into_iter().flatten().collect(), 0);
        let mut numbers = Numbers::OnDevice {
            numbers,
            has_norm: norm.is_some(),
        };
        if is_alone && self.is_late {
            if let Some(norm) = norm {
                model.set_clipping(norm, self.arguments.max_grad_norm);
            }
        } else {
            // All in one read: the only time in a step that the host waits for the device.
            let mut found = numbers.read()?;
            self.check_finite("loss", found.loss, &rows, self.next_step())?;
            if !is_alone {
                let own = Found {
                    gradients,
                    loss: found.loss,
                    denominator,
                    count,
                    sums: found.sums,
                    tokens,
                    told_to_stop: self.interrupter.should_stop(),
                };
                let most = self.strategy.objective.measures().sums.len();
                let own_steps = self.record.local.is_some();
                // The last batch of an epoch may have no rows for this rank.
                let learns = !own_steps || count > 0;
                let of_all = own.of_all(&*exchange, &model, most, !own_steps)?;
                self.stop_with_others(of_all.told_to_stop);
                (count, tokens) = (of_all.count, of_all.tokens);
                gradients = of_all.gradients;
                if learns {
                    self.guard(&gradients)?;
                }
                let norm = global_norm(&model, &gradients);
                found = Read {
                    loss: of_all.loss,
                    grad_norm: norm.map_or(Ok(0.0), read)?,
                    sums: of_all.sums,
                };
            }
            self.check_finite("gradient norm", found.grad_norm, &rows, self.next_step())?;
            let factor = clip_coefficient(found.grad_norm, self.arguments.max_grad_norm);
            if factor < 1.0 {
                scale(&model, &mut gradients, factor);
            }
            numbers = Numbers::Read(found);
        }
        model.set_next_step(self.next_step());
        drop(model);
        self.learner.lr_step();
        self.learner.optimizer_step(gradients);

        let state = &mut self.record.state;
        state.advance(next);
        self.done.push(Done {
            step: state.global_step,
            epoch: state.epoch(self.strategy.batches_per_epoch),
            learning_rate: self.learner.lr_current(),
            mean_loss,
            numbers,
            count,
            tokens,
            rows,
            seconds: started.elapsed().as_secs_f64(),
        });
        if self.settles() {
            self.settle()?;
        }
        Ok(())
    }

    /// The number of the current step, from 1.
    fn next_step(&self) -> usize {
        self.record.state.global_step + 1
    }

    /// Checks the gradients of the first step.
    fn guard(&mut self, gradients: &GradientsParams) -> Result<()> {
        if !self.guarded {
            self.learner.model().model.check_gradients(gradients)?;
            self.guarded = true;
        }
        Ok(())
    }

    /// Draws the batches of one step: fewer at the end of an epoch.
    fn draw(
        &self,
        batches: &mut dyn DataLoaderIterator<MicroBatch<T>>,
    ) -> Result<Vec<MicroBatch<T>>> {
        let epoch = self.record.state.next.epoch;
        let mut window: Vec<MicroBatch<T>> = Vec::new();
        let mut whole = 0;
        while whole < self.arguments.gradient_accumulation_steps
            && (window.last()).is_none_or(|batch| batch.next.epoch == epoch || batch.ends.is_none())
        {
            let Some(batch) = batches.next() else {
                break;
            };
            let batch = batch?;
            whole += usize::from(batch.ends.is_some());
            window.push(batch);
        }
        Ok(window)
    }

    fn check_finite(
        &self,
        what: &'static str,
        value: f64,
        rows: &(String, String),
        step: usize,
    ) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        Err(TrainError::NotFinite {
            what,
            value,
            step,
            rows: rows.0.clone(),
            file: rows.1.clone(),
            saved: match self.record.checkpoints.paths().next_back() {
                Some(path) => format!("the last good checkpoint is {}", path.display()),
                None => "no checkpoint was saved before".to_string(),
            },
        })
    }

    /// Tells Burn that an epoch begins, or that training goes on after an evaluation.
    fn start_training(&mut self) {
        self.emit(LearnerEvent::StartSplit {
            epoch_number: self.record.state.next.epoch as usize + 1,
            total_items: self.steps.total,
        });
    }

    fn emit(&mut self, event: LearnerEvent<StepOutput>) {
        self.interrupter
            .fail_on_error(self.events.process_train(event));
    }

    fn emit_valid(&mut self, event: LearnerEvent<StepOutput>) {
        self.interrupter
            .fail_on_error(self.events.process_valid(event));
    }
}
