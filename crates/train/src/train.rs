//! Running a training: from a model and examples to a trained model and its files.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::train::metric::LearningRateMetric;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};
use burn_peft_data::{DataError, Examples};

use crate::arguments::{IntervalStrategy, TrainingArguments};
use crate::checkpoint::Checkpoints;
use crate::error::{Result, TrainError};
use crate::loader::{Loader, Order};
use crate::log::{EvalLog, MetricsFile};
use crate::metrics::{NoFiles, StepMetric};
use crate::optimizer::adamw;
use crate::renderer::ProgressRenderer;
use crate::sample::SamplePrompt;
use crate::schedule::ScheduleCursor;
use crate::state::TrainState;
use crate::step::Trainee;
use crate::strategy::{Record, StepStrategy};
use crate::target::TrainTarget;

/// How a run is watched and stopped.
pub struct TrainOptions {
    /// What shows the run: a [`ProgressRenderer`], or any other renderer of Burn's.
    pub renderer: Box<dyn MetricsRenderer>,
    /// Stops the run after its current step, from any thread.
    pub interrupter: Interrupter,
    /// Continued after every evaluation, into `metrics.jsonl`.
    pub sample: Option<SamplePrompt>,
}

impl Default for TrainOptions {
    /// Nothing is shown, and nobody stops the run.
    fn default() -> Self {
        Self {
            renderer: Box::new(ProgressRenderer::hidden()),
            interrupter: Interrupter::new(),
            sample: None,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct TrainOutcome<T> {
    /// The trained model, without dropout and gradients (`Module::valid`).
    pub model: T,
    /// Optimizer steps done.
    pub steps: usize,
    /// Epochs done.
    pub epoch: f64,
    /// The mean of the losses of all steps.
    pub train_loss: f64,
    /// The time the run took, in seconds.
    pub train_runtime: f64,
    /// Tokens seen, padding left out.
    pub tokens: usize,
    /// The evaluations in the course of the run.
    pub evaluations: Vec<EvalLog>,
    /// The checkpoints there are, the oldest first.
    pub checkpoints: Vec<PathBuf>,
    /// Why the run stopped before its last step, if someone stopped it.
    pub interrupted: Option<String>,
}

/// Trains a model and writes into `output_dir`: what training changes (an adapter's two files),
/// `metrics.jsonl`, and `checkpoint-N` folders. Files of those names are replaced, others stay.
///
/// A run that is interrupted still writes what it has.
///
/// # Errors
/// If an argument cannot be, a trainable tensor does not learn, a loss is not finite, a file
/// cannot be written or the device fails; the error names it.
pub fn train<T: TrainTarget>(
    model: T,
    train: Examples,
    validation: Option<Examples>,
    arguments: &TrainingArguments,
    options: TrainOptions,
) -> Result<TrainOutcome<T>> {
    let started = Instant::now();
    arguments.validate()?;
    if arguments.eval_strategy != IntervalStrategy::No && validation.is_none() {
        let problem = "asks for evaluations, but there is nothing to evaluate on; set \
                       data.validation or data.validation_split, or eval_strategy = \"no\"";
        return Err(TrainError::Argument {
            key: "eval_strategy",
            problem: problem.into(),
        });
    }
    if train.is_empty() {
        let (file, problem) = (train.file, "nothing to train on".to_string());
        return Err(DataError::Empty { file, problem }.into());
    }
    let dir = &arguments.output_dir;
    std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;

    let model = Trainee {
        model: model.train(),
    };
    let device = model.model.device();
    let state = TrainState::default();
    let first_step = state.global_step;
    let file = train.file.clone();
    let train = Arc::new(train);
    // Burn wants a loader in any case; without validation nothing is drawn from it.
    let validation = validation.map_or_else(|| Arc::clone(&train), Arc::new);
    let train = Loader::new(
        train,
        arguments.per_device_train_batch_size,
        Order::Shuffled {
            seed: arguments.seed,
            start: state.next,
        },
        device.clone(),
    )?;
    let validation = Loader::new(
        validation,
        arguments.per_device_eval_batch_size,
        Order::File,
        device.without_autodiff(),
    )?;
    let batches_per_epoch = train.batches_per_epoch();
    let steps = arguments.steps(batches_per_epoch);
    let schedule = arguments.schedule(steps.total);
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "Burn takes an `Arc`; this stays here"
    )]
    let strategy = Arc::new(StepStrategy {
        arguments: arguments.clone(),
        steps,
        batches_per_epoch,
        file,
        sample: options.sample,
        record: RefCell::new(Record {
            metrics: MetricsFile::create(dir)?,
            checkpoints: Checkpoints::new(dir, arguments.save_total_limit),
            evaluations: Vec::new(),
            state,
        }),
        error: RefCell::new(None),
    });

    let cursor = ScheduleCursor {
        schedule,
        step: first_step,
    };
    let result = SupervisedTraining::<Trainee<T>>::new(dir, Arc::new(train), Arc::new(validation))
        .with_training_strategy(TrainingStrategy::Custom(strategy.clone()))
        .with_application_logger(None)
        .with_metric_logger(NoFiles)
        .with_interrupter(options.interrupter)
        .renderer(options.renderer)
        .num_epochs(steps.epochs)
        .metric_train_numeric(StepMetric::loss())
        .metric_train_numeric(StepMetric::epoch())
        .metric_train_numeric(StepMetric::grad_norm())
        .metric_train_numeric(StepMetric::tokens_per_second())
        .metric_train_numeric(StepMetric::peak_memory())
        .metric_train_numeric(LearningRateMetric::new())
        .metric_valid_numeric(StepMetric::loss())
        .launch(Learner::new(model, adamw(arguments), cursor));

    if let Some(error) = strategy.error.take() {
        return Err(error);
    }
    if let Some(error) = result.error {
        return Err(TrainError::Burn(error));
    }
    let model = result.model.model;
    model.save(dir)?;

    let record = strategy.record.borrow();
    let state = &record.state;
    Ok(TrainOutcome {
        model,
        steps: state.global_step,
        epoch: state.epoch(batches_per_epoch),
        train_loss: state.total_loss / state.global_step.max(1) as f64,
        train_runtime: started.elapsed().as_secs_f64(),
        tokens: state.num_input_tokens_seen,
        evaluations: record.evaluations.clone(),
        checkpoints: record.checkpoints.paths().map(Into::into).collect(),
        interrupted: result
            .interrupted
            .map(|stop| stop.reason.unwrap_or_default()),
    })
}
