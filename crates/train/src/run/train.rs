//! Training: from a model and examples to a trained model and its files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::train::metric::LearningRateMetric;
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};
use burn_peft_data::{DataError, EmptyProblem, Examples, Lm};
use burn_peft_models::embeddings::Modules;
use toml::Table;

use crate::checkpoint::best::Best;
use crate::checkpoint::checkpoints::Checkpoints;
use crate::checkpoint::identity::frozen_hash;
use crate::checkpoint::info::CheckpointInfo;
use crate::checkpoint::run_folder::RunFolder;
use crate::checkpoint::saved::{DataIdentity, OPTIMIZER_NAME, Saved};
use crate::configuration::arguments::{IntervalStrategy, TrainingArguments};
use crate::configuration::config::TrainConfig;
use crate::configuration::distributed::DistributedConfig;
use crate::error::{ConfigProblem, Result, TrainError};
use crate::exchange::{Alone, Exchange};
use crate::objective::Objective;
use crate::optimizer;
use crate::optimizer::flat::Flat;
use crate::optimizer::name::OptimizerName;
use crate::optimizer::state_file;
use crate::run::evaluate::Evaluation;
use crate::run::loader::{Loader, Order, Share};
use crate::run::local_steps::LocalSteps;
use crate::run::reduce::hand_out;
use crate::run::same;
use crate::run::state::TrainState;
use crate::run::step::Trainee;
use crate::run::target::TrainTarget;
use crate::run::training_loop::{Record, StepStrategy};
use crate::seeing::assessment::Assessment;
use crate::seeing::metrics::{NoFiles, StepMetric};
use crate::seeing::metrics_file::{EvalLog, MetricsFile};
use crate::seeing::renderer::ProgressRenderer;
use crate::seeing::sample::SamplePrompts;

/// How a run is watched and stopped.
pub struct TrainOptions {
    /// Shows the run: a [`ProgressRenderer`], or any of Burn's renderers.
    pub renderer: Box<dyn MetricsRenderer>,
    /// Stops the run after its current step, from any thread.
    pub interrupter: Interrupter,
    /// The prompts that are continued after every evaluation; the results go into `metrics.jsonl`.
    pub samples: Option<SamplePrompts>,
    /// The evaluation of the model before training; step 0 of `metrics.jsonl` in a run with
    /// evaluations.
    pub before: Assessment,
    /// The folder of a checkpoint to resume from.
    pub resume: Option<PathBuf>,
    /// The training file, which checkpoints record: a run resumes only if all keys that change what
    /// is computed are the same.
    pub config: Option<TrainConfig>,
    /// How hidden states become a text's vector, and the size of the hidden states: written with
    /// every checkpoint.
    pub modules: Option<(Modules, usize)>,
    /// Whether the trained model is discarded, because only the run's numbers are wanted.
    pub discard: bool,
    /// The output folder, if the caller holds it already; otherwise the run holds it.
    pub folder: Option<Arc<RunFolder>>,
    /// How this process reaches the others that train the same model.
    pub exchange: Arc<dyn Exchange>,
    /// Whether the ranks have already found with [`check_same_config`](crate::check_same_config)
    /// and [`check_same_work`](crate::check_same_work) that they train the same thing.
    pub compared: bool,
    /// How often the ranks exchange what they learn.
    pub distributed: DistributedConfig,
}

impl Default for TrainOptions {
    /// A run that shows nothing and that nobody stops.
    fn default() -> Self {
        Self {
            renderer: Box::new(ProgressRenderer::hidden()),
            interrupter: Interrupter::new(),
            samples: None,
            before: Assessment::default(),
            resume: None,
            config: None,
            modules: None,
            discard: false,
            folder: None,
            exchange: Arc::new(Alone),
            compared: false,
            distributed: DistributedConfig::default(),
        }
    }
}

/// The result of a run.
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
    /// Tokens seen, without padding.
    pub tokens: usize,
    /// The evaluations during the run.
    pub evaluations: Vec<EvalLog>,
    /// The evaluation of `model`, if the run made it.
    pub evaluation: Option<Evaluation>,
    /// The best evaluation and the best checkpoint.
    pub best: Best,
    /// Whether `early_stopping_patience` ended the run.
    pub early_stopped: bool,
    /// The checkpoints in the output folder, the oldest first.
    pub checkpoints: Vec<PathBuf>,
    /// Why the run stopped before its last step, if someone stopped it.
    pub interrupted: Option<String>,
}

/// Trains a language model and writes into `output_dir`: what training changes (an adapter's two
/// files), `metrics.jsonl`, and `checkpoint-N` folders. Files with these names are replaced; others
/// stay.
///
/// An interrupted run still writes what it has, and a checkpoint to continue from
/// ([`TrainOptions::resume`]). It continues as if it had never stopped: on the CPU bit for bit.
///
/// # Errors
/// If an argument is invalid, a trainable tensor does not learn, a loss is not finite, a file
/// cannot be written or the device fails; the error names it. Also if another run writes into the
/// folder.
pub fn train<T: TrainTarget>(
    model: T,
    train: Examples,
    validation: Option<Examples>,
    arguments: &TrainingArguments,
    options: TrainOptions,
) -> Result<TrainOutcome<T>> {
    train_with(Arc::new(Lm), model, train, validation, arguments, options)
}

/// As [`train`], for an objective.
///
/// # Errors
/// As [`train`]; also if the objective does not have the metric `metric_for_best_model`.
pub fn train_with<T: TrainTarget>(
    objective: Arc<dyn Objective<T>>,
    model: T,
    train: Examples,
    validation: Option<Examples>,
    arguments: &TrainingArguments,
    options: TrainOptions,
) -> Result<TrainOutcome<T>> {
    let started = Instant::now();
    arguments.validate()?;
    arguments.check_validation(validation.is_some())?;
    let measures = objective.measures();
    arguments.check_metric(measures)?;
    if train.is_empty() {
        let (file, problem) = (train.file, EmptyProblem::Examples);
        return Err(DataError::Empty { file, problem }.into());
    }
    let dir = &arguments.output_dir;
    let exchange = options.exchange;
    let writes = exchange.is_first();
    let config = configuration(options.config.as_ref(), arguments)?;
    // This comes before anything is written.
    if !options.compared {
        same::check_same_table(&*exchange, &config)?;
        let validation = validation.as_ref();
        same::check_same_work(&*exchange, &*objective, &model, &train, validation)?;
    }
    let _folder = match options.folder {
        None if writes => Some(Arc::new(RunFolder::hold(dir)?)),
        folder => folder,
    };

    let mut checkpoints = if writes {
        Checkpoints::new(dir, arguments.save_total_limit)?
    } else {
        Checkpoints::of_others(dir)
    };
    let mut model = model;
    let mut state = TrainState {
        ranks: exchange.size(),
        ..TrainState::default()
    };
    let mut before = None;
    if let Some(checkpoint) = &options.resume {
        let saved = Saved::read(checkpoint)?;
        saved.check_files(checkpoint)?;
        model.restore(checkpoint)?;
        state = saved.state.clone();
        CheckpointInfo::find(checkpoint)?.check_same(&*exchange)?;
        exchange.count(state.exchanged_bytes);
        before = Some((checkpoint, saved));
    }
    if let Some(dtype) = arguments.frozen_dtype() {
        model.cast_frozen(dtype);
    }
    let lora_fa = match arguments.optim {
        OptimizerName::Lorafa => Some(model.lora_fa()?),
        _ => None,
    };
    let checkpointing = arguments.gradient_checkpointing;
    let model = model.train();
    let parameters = model.parameters();
    let model = hand_out(&*exchange, model, &parameters)?;
    let flat = Flat::new(arguments, &parameters);
    let mut model = Trainee::new(model, checkpointing).with_flat(flat);
    if let Some(lora_fa) = lora_fa {
        model = model.with_lora_fa(lora_fa);
    }
    let first_step = state.global_step;
    let files = train.sets().iter().map(|set| set.file.clone()).collect();
    let data = DataIdentity {
        examples: train.len(),
        tokens: train.tokens(),
        hash: Some(train.hash()),
    };
    let parts = [Some(&train), validation.as_ref()];
    let parts: Vec<&Examples> = parts.into_iter().flatten().collect();
    objective.prepare(&parts, arguments.per_device_train_batch_size)?;
    let train = Arc::new(train);
    // Burn always wants a loader; without validation nothing is drawn from it.
    let validation = validation.map_or_else(|| Arc::clone(&train), Arc::new);
    let train = Loader::new(
        Arc::clone(&objective),
        train,
        state.ranks * arguments.per_device_train_batch_size,
        Order::of(arguments, state.next),
    )?;
    let train = train.shared(Share {
        rank: exchange.rank(),
        size: exchange.size(),
        rows: arguments.per_device_train_batch_size,
    });
    let validation = Loader::new(
        Arc::clone(&objective),
        validation,
        arguments.per_device_eval_batch_size,
        Order::File,
    )?;
    let batches_per_epoch = train.batches_per_epoch();
    let steps = arguments.steps(batches_per_epoch);
    let schedule = arguments.schedule(steps.total);
    let mut local = LocalSteps::begin(&options.distributed, &model.model, &parameters)?;
    let mut optimizer = optimizer::optimizer(arguments, &parameters)?;
    let scheduler = optimizer::scheduler(arguments, &parameters, schedule, first_step)?;
    let mut identity = Saved {
        saved_at: 0,
        total_steps: steps.total,
        base: None,
        objective: objective.identity(),
        model: model.model.config_json(),
        state: state.clone(),
        data,
        config,
        files: BTreeMap::new(),
    };
    if !options.discard
        && writes
        && let Some(warning) = schedule.warning()
    {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = arguments.few_steps(steps.total)
        && writes
    {
        tracing::warn!("{warning}");
    }
    let (metrics, evaluations) = match before {
        None if !writes => (MetricsFile::none(), Vec::new()),
        None => {
            let mut metrics = MetricsFile::create(dir)?;
            if arguments.eval_strategy != IntervalStrategy::No {
                metrics.write_before(&options.before)?;
            }
            (metrics, Vec::new())
        }
        Some((checkpoint, saved)) => {
            identity.base = frozen_hash(&model.model);
            saved.check(&identity, checkpoint)?;
            if let Some(warning) = saved.other_length(&identity, checkpoint)
                && writes
            {
                tracing::warn!("{warning}");
            }
            if let Some(local) = &mut local {
                let from = (checkpoint.as_path(), saved.rank_files());
                (model.model, optimizer) =
                    local.resume(from, &*exchange, model.model, optimizer, &parameters)?;
            } else {
                let path = checkpoint.join(OPTIMIZER_NAME);
                optimizer = state_file::load(optimizer, &path, &parameters)?;
            }
            checkpoints.adopt(&identity)?;
            if let Some(step) = state.best.checkpoint() {
                // The first rank decides for all: the others may not see the folder.
                let gone = if writes {
                    CheckpointInfo::find(&checkpoints.path(step)).err()
                } else {
                    None
                };
                if let Some(error) = &gone {
                    tracing::warn!("the best checkpoint is gone: {error}");
                }
                if exchange.any(gone.is_some())? {
                    state.best.best_checkpoint = None;
                }
            }
            let from = checkpoint.parent().unwrap_or(dir);
            if writes {
                MetricsFile::resume(dir, from, first_step)?
            } else {
                (MetricsFile::none(), Vec::new())
            }
        }
    };
    let strategy = Arc::new(StepStrategy {
        exchange: Arc::clone(&exchange),
        objective,
        arguments: arguments.clone(),
        steps,
        batches_per_epoch,
        files,
        samples: options.samples,
        modules: options.modules,
        identity: RefCell::new(identity),
        record: RefCell::new(Record {
            metrics,
            checkpoints,
            evaluations,
            evaluation: None,
            was_stopped: false,
            state,
            local,
        }),
        error: RefCell::new(None),
    });

    let mut training =
        SupervisedTraining::<Trainee<T>>::new(dir, Arc::new(train), Arc::new(validation))
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
            .metric_valid_numeric(StepMetric::loss());
    for (index, name) in measures.sums.iter().enumerate() {
        training = training.metric_valid_numeric(StepMetric::mean(name, index));
    }
    let result = training.launch(Learner::new(model, optimizer, scheduler));

    if let Some(error) = strategy.error.take() {
        return Err(error);
    }
    if let Some(error) = result.error {
        return Err(TrainError::Burn(error));
    }
    let mut model = result.model.model;
    let record = strategy.record.borrow();
    let state = &record.state;
    let mut step_of_model = state.global_step;
    if arguments.load_best_model_at_end && !record.was_stopped {
        match state.best.checkpoint() {
            Some(step) => {
                if writes {
                    model.restore(&record.checkpoints.path(step))?;
                }
                // The others may not see the folder.
                model = hand_out(&*exchange, model, &parameters)?.valid();
                step_of_model = step;
            }
            None if !record.evaluations.is_empty() && state.best.best_metric.is_none() => {
                tracing::warn!(
                    "load_best_model_at_end has nothing to load: {} was not a number in any \
                     evaluation; the weights are those of the last step",
                    arguments.metric_for_best_model.metric().key()
                );
            }
            None => tracing::warn!(
                "load_best_model_at_end has nothing to load: no checkpoint was evaluated in {} \
                 steps; the weights are those of the last step",
                state.global_step
            ),
        }
    }
    if !options.discard && writes {
        model.save(dir)?;
    }
    Ok(TrainOutcome {
        model,
        steps: state.global_step,
        epoch: state.epoch(batches_per_epoch),
        train_loss: state.total_loss / state.global_step.max(1) as f64,
        train_runtime: started.elapsed().as_secs_f64(),
        tokens: state.num_input_tokens_seen,
        evaluations: record.evaluations.clone(),
        evaluation: record
            .evaluation
            .clone()
            .filter(|(step, _)| *step == step_of_model)
            .map(|(_, evaluation)| evaluation),
        best: state.best.clone(),
        early_stopped: state.best.is_final(arguments),
        checkpoints: record.checkpoints.paths().collect(),
        interrupted: result
            .interrupted
            .map(|stop| stop.reason.unwrap_or_default()),
    })
}

/// The configuration that a checkpoint records: the training file, with `[training]` as it is used.
pub(crate) fn configuration(
    config: Option<&TrainConfig>,
    arguments: &TrainingArguments,
) -> Result<Table> {
    let error = |error: toml::ser::Error| {
        let problem = ConfigProblem::NoToml(error.to_string());
        TrainError::config("the configuration", problem)
    };
    let mut table = match config {
        Some(config) => {
            let mut config = config.clone();
            (config.objective().fill)(&mut config);
            Table::try_from(config).map_err(error)?
        }
        None => Table::new(),
    };
    let training = Table::try_from(arguments).map_err(error)?;
    table.insert("training".into(), training.into());
    Ok(table)
}
