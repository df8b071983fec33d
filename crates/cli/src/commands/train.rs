//! `peft train`: runs a training file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, mem};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_peft::files::{CONFIG_NAME, TRAINING_NAME, WEIGHTS_NAME, read_config, write_adapter};
use burn_peft::parameters::{count, thousands, trainable_parameters_line};
use burn_peft::tensor_file::read_tensors;
use burn_peft::{Adaptable, StateDict, set_seed, take_block_counts};
use burn_peft_data::DataSet;
use burn_peft_device::product;
use burn_peft_files::read_text;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::weight_files;
use burn_peft_models::{CausalLm, LanguageModel};
use burn_peft_train::{
    Assessment, EVENTS_NAME, METRICS_NAME, Objective, OldRun, ProgressRenderer, Report, RunFolder,
    SamplePrompts, Setting, TrainConfig, TrainOptions, TrainOutcome, check_dashboard,
    check_same_config, check_same_work, clock, dashboard, initialize_lora_eva_weights, limits,
    paragraph, peak_memory_bytes, settings_toml, train_with,
};
use clap::error::ErrorKind;

mod args;
mod assess;
mod card;
mod commands;
mod dry_run;
mod embed;
mod folder;
mod head;
mod labels;
mod launcher;
mod model;
mod objective;
mod place;
mod prompt;
mod resume;
mod sets;
mod summary;

pub use self::args::Args;
use self::args::NO_FILE;
use self::assess::Evaluate;
use self::card::write_card;
use self::commands::{commands, generate_command};
use self::dry_run::dry_run;
use self::folder::{check_sources, old_run};
pub(super) use self::labels::settle as settle_labels;
use self::launcher::once_a_host;
use self::model::{attach, initial_values, keep, load_base, say_of_base, say_of_int8};
use self::objective::objective;
pub(super) use self::place::beside;
use self::prompt::{prompts, warn_of_other_ends};
use self::resume::{checkpoint, stopped};
use self::sets::show_data;
pub(super) use self::sets::{epoch_of, names, show_validation};
use self::summary::summary;
use super::generate::generation_defaults;
use crate::failure::Interrupted;
use crate::interrupt::{SIGTERM, Signals};
use crate::loading::{find_data, find_model, find_tokenizer, warn_of_space, warn_of_template};
use crate::output::{columns, emit, say, size};
use crate::ranks;

/// Runs `peft train`.
pub fn run(mut args: Args, device: &Device) -> Result<()> {
    if let (None, Some(Some(path))) = (&args.file, &args.resume)
        && path.is_file()
    {
        // `--resume FILE`: a checkpoint is never a file.
        args.file = args.resume.replace(None).flatten();
    }
    let Some(file) = &args.file else {
        clap::Error::raw(ErrorKind::MissingRequiredArgument, NO_FILE).exit()
    };
    let mut config = TrainConfig::from_file(file, &args.overrides)?;
    let mut settings = all_settings(&config, file, &args.overrides)?;
    if args.print_config {
        return emit(&settings_toml(&settings)).map(drop);
    }
    let exchange = ranks::current();
    launcher::check(exchange.size(), &config.training.output_dir)?;
    if args.dry_run && exchange.size() > 1 {
        bail!("--dry-run needs a single process: run it without mpirun or srun");
    }
    check_same_config(&*exchange, &config)?;
    if args.tui {
        check_dashboard()?;
    }
    let has_validation = DataSet::has_validation(&config.data, &find_data);
    config.training.check_validation(has_validation)?;
    warn_of_template(&config.data);
    let output_dir = &config.training.output_dir;
    // This comes before anything that takes time.
    let folder = if args.dry_run || !exchange.is_first() {
        None
    } else {
        Some(Arc::new(RunFolder::hold(output_dir)?))
    };
    let resume = resume::of_all(&*exchange, || checkpoint(&args, output_dir))?;
    let from_here = |error| beside(error, file, &config);
    let files = find_model(&config.model).map_err(from_here)?;
    check_sources(&config, files.path())?;
    // A resumed run has batches of the same size as before, with any number of processes.
    let ranks = resume.as_ref().map_or(exchange.size(), |from| from.ranks);
    if ranks != exchange.size() {
        say(format!(
            "the run began with {ranks} ranks: a step keeps its {ranks} × {} rows, however many ranks \
             share them\n",
            config.training.per_device_train_batch_size
        ))?;
    }
    let old = if args.dry_run || !exchange.is_first() {
        None
    } else {
        old_run(&args, &config, files.path(), resume.as_ref())?
    };
    let tokenizer = find_tokenizer(&files, config.tokenizer.as_deref())?;
    settle_labels(&mut config, Some(&files), file)?;
    let head = head::wanted(&config, tokenizer.as_ref())?;
    let model = load_base(&config, &files, head.as_ref(), device)?;
    tracing::info!("model {}:\n{}", config.model, model.tree());
    let seed = config.training.seed;
    let kind = config.objective();
    let task = (kind.task)(&config);
    let load = |config: &TrainConfig, limits| {
        let tokenizer = tokenizer.as_ref();
        once_a_host(&*exchange, || {
            DataSet::load_with(&config.data, tokenizer, limits, seed, &find_data, &*task)
                .map_err(|error| beside(error.into(), file, config))
        })
    };
    let mut data = None;
    if config.wants_total_step() {
        let loaded = load(&config, limits(&model))?;
        let batch_size = ranks * config.training.per_device_train_batch_size;
        let batches = loaded.train.sequences_per_epoch().div_ceil(batch_size);
        config.set_total_step(config.training.steps(batches).total);
        settings = all_settings(&config, file, &args.overrides)?;
        data = Some(loaded);
    }
    // Before the data: an adapter may use positions itself.
    let mut model = if config.is_full_training() {
        LanguageModel::from(model)
    } else {
        set_seed(seed, device);
        attach(model, &config, file)?.into()
    };
    if let Some(model) = model.as_peft_mut() {
        head::describe(model, &files)?;
    }
    keep(&mut model, &config)?;
    let limits = limits(&model);
    embed::check(&config, &files, &model, limits)?;
    let modules = embed::modules(&config, &files, &model)?;
    let data = match data {
        Some(data) => data,
        None => load(&config, limits)?,
    };
    config.settle_label_weights(&data.train);
    let objective = objective(&model, &config)?;

    if let (Some(model), None) = (model.as_peft_mut(), &config.adapter) {
        let batch_size = ranks * config.training.per_device_train_batch_size;
        initialize_lora_eva_weights(model, &data.train, batch_size)?;
    }
    let initial = match model.as_peft() {
        _ if !args.save_converted => None,
        Some(model) if config.adapter.is_none() => Some(initial_values(model)?),
        _ => bail!("--save-converted needs a new adapter, whose initial values are known"),
    };
    warn_of_space(&data.train, tokenizer.as_ref());
    let defaults = generation_defaults(&files, tokenizer.as_ref())?;
    if model.head().predicts_tokens() {
        warn_of_other_ends(&defaults, tokenizer.as_ref(), limits.vocab_size);
    }
    let ends = defaults.config.eos_token_ids;
    let prompts = if model.head().predicts_tokens() {
        prompts(&config, &data, tokenizer.as_ref(), ends, limits)?
    } else if config.prompt.is_some() {
        bail!(
            "`prompt` is continued by a language model, and training.objective = \"{}\" trains none: \
             leave it out",
            kind.name
        )
    } else {
        None
    };
    let job = Job {
        config,
        objective,
        base: files,
        data,
        prompts,
        settings,
        options: TrainOptions {
            resume: resume.map(|checkpoint| checkpoint.path),
            folder,
            exchange,
            modules,
            ..TrainOptions::default()
        },
        old,
        dry_run: args.dry_run,
        tui: args.tui,
        initial,
    };
    if let Some(adapter) = &job.config.adapter {
        say(format!("continuing with the adapter {adapter}"))?;
    }
    match model.as_peft() {
        None => say(format!("all weights of {} are trained", job.config.model))?,
        Some(model) => {
            tracing::info!("with the adapter:\n{}", model.tree());
            emit(&summary(model)?)?;
            say_of_base(&job.config, model)?;
        }
    }
    let (trainable, all) = count(&model.named_parameters());
    say(trainable_parameters_line(trainable, all))?;
    job.run(model, (trainable, all))
}

/// Every value of the run and its origin.
fn all_settings(config: &TrainConfig, file: &Path, overrides: &[String]) -> Result<Vec<Setting>> {
    let text = read_text(file)?;
    Ok(config.settings(&text, &file.display().to_string(), overrides)?)
}

/// What is done with a model, whatever part of it is trained.
struct Job {
    config: TrainConfig,
    /// What the model is trained for.
    objective: Arc<dyn Objective<LanguageModel>>,
    /// The files of the model that is trained.
    base: ModelFiles,
    data: DataSet,
    prompts: Option<SamplePrompts>,
    settings: Vec<Setting>,
    options: TrainOptions,
    /// The results of an earlier run in the folder, to be removed.
    old: Option<OldRun>,
    dry_run: bool,
    tui: bool,
    /// The adapter's initial values, if it is to be saved without what it took from the weights.
    initial: Option<StateDict>,
}

impl Job {
    /// Trains; `parameters` are the numbers of trained and of all parameters.
    fn run(mut self, model: LanguageModel, parameters: (usize, usize)) -> Result<()> {
        say("")?;
        show_data(&self.data, &self.config.data)?;
        if self.dry_run {
            return dry_run(self.objective, model, self.data, &self.config.training);
        }
        let exchange = Arc::clone(&self.options.exchange);
        // This comes before anything that takes time, and before existing files are removed.
        let (data, objective) = (&self.data, &*self.objective);
        check_same_work(
            &*exchange,
            objective,
            &model,
            &data.train,
            data.validation.as_ref(),
        )?;
        let mut before = Assessment::default();
        if self.options.resume.is_none() {
            let evaluates = self.config.training.eval_on_start;
            if self.assesses(evaluates) {
                say("\nbefore training:")?;
                let evaluate = if evaluates {
                    Evaluate::Now("evaluating before training")
                } else {
                    Evaluate::No
                };
                before = self.assess(&model, evaluate)?;
            }
        }
        say("")?;

        let arguments = &self.config.training;
        // Held until everything is written.
        let _folder = self.options.folder.clone();
        if let Some(old) = self.old.take() {
            old.remove()?;
        }
        let config_file = if exchange.is_first() {
            self.config.save()?
        } else {
            PathBuf::new()
        };
        let options = TrainOptions {
            samples: self.prompts.clone(),
            before: before.clone(),
            compared: true,
            config: Some(self.config.clone()),
            distributed: self.config.distributed.clone().unwrap_or_default(),
            // As late as this, because the dashboard takes over the whole terminal.
            renderer: if !exchange.is_first() {
                Box::new(ProgressRenderer::hidden())
            } else if self.tui {
                dashboard(&self.options.interrupter)?
            } else {
                let samples = self.prompts.as_ref().map(|prompts| prompts.samples.clone());
                let renderer = ProgressRenderer::new(arguments.logging_steps)
                    .with_measures(self.objective.measures());
                Box::new(renderer.with_samples(samples.unwrap_or_default()))
            },
            ..mem::take(&mut self.options)
        };
        let signals = Signals::new(&options.interrupter)?;
        let data = self.data.clone();
        take_block_counts();
        let outcome = train_with(
            Arc::clone(&self.objective),
            model,
            data.train,
            data.validation,
            arguments,
            options,
        )?;
        say_of_int8(take_block_counts())?;
        // A signal after the last step has not stopped anything.
        let is_whole = outcome.steps > 0 && outcome.checkpoints.is_empty();
        let by = signals.end().filter(|_| !is_whole);
        if exchange.any(by.is_some())? {
            // With several ranks, only one of them may have received the signal.
            let by = by.unwrap_or(Interrupted { signal: SIGTERM });
            stopped(&by, outcome.steps, &outcome.checkpoints);
            return Err(by.into());
        }
        if let Some(reason) = &outcome.interrupted {
            say(format!("stopped early: {reason}"))?;
        }
        if outcome.early_stopped {
            say(format!(
                "stopped at step {}: {} evaluations in a row were no better \
                 (early_stopping_patience)",
                outcome.steps, outcome.best.early_stopping_patience_counter
            ))?;
        }
        if let (true, Some(best)) = (
            arguments.load_best_model_at_end,
            outcome.best.best_checkpoint,
        ) {
            say(format!(
                "the result is the best checkpoint, of step {} ({} {:.4})",
                best.step,
                arguments.metric_for_best_model.metric().key(),
                best.metric
            ))?;
        }
        let told = format!(
            "after training, {} steps in {}, {} tokens, train_loss {:.4}{}",
            outcome.steps,
            clock(Duration::from_secs_f64(outcome.train_runtime)),
            thousands(outcome.tokens),
            outcome.train_loss,
            if self.assesses(true) { ":" } else { "" }
        );
        say(format!("\n{}", paragraph("", &told, columns())))?;
        let evaluate = Evaluate::Now("evaluating the result");
        let known = outcome.evaluation.clone();
        let evaluate = known.map_or(evaluate, Evaluate::Known);
        let after = self.assess(&outcome.model, evaluate)?;

        if !exchange.is_first() {
            return Ok(());
        }
        if exchange.size() > 1 {
            let (ranks, bytes) = (exchange.size(), size(exchange.bytes()));
            say(format!(
                "{ranks} ranks, each of which has exchanged {bytes}"
            ))?;
        }
        let dir = &arguments.output_dir;
        if let Some(initial) = self.initial.take() {
            let now = read_tensors(&dir.join(WEIGHTS_NAME))?.into_iter().collect();
            let initial = initial.into_iter().collect();
            let (config, tensors) = read_config(dir)?.subtract_initial(now, initial)?;
            write_adapter(dir, config.as_ref(), tensors)?;
            let rank = config.to_json()["r"].clone();
            say(format!("saved as {} of rank {rank}", config.peft_type()))?;
        }

        let report = Report {
            title: run_name(&arguments.output_dir),
            subtitle: format!("{} on {}", self.config.model, self.data.train.file),
            made: made(&outcome.model.device()),
            counts: self.counts(&outcome, parameters),
            measures: self.objective.measures(),
            prompts: self
                .prompts
                .take()
                .map_or_else(Vec::new, |found| found.prompts),
            before,
            after,
            after_step: match outcome.best.checkpoint() {
                Some(best) if self.config.training.load_best_model_at_end => best,
                _ => outcome.steps,
            },
            settings: mem::take(&mut self.settings),
            commands: commands(&self.config, &config_file, self.data.train.has_chats()),
        };
        let mut written: Vec<PathBuf> = Vec::new();
        if !self.config.is_full_training() {
            let files = [CONFIG_NAME, WEIGHTS_NAME, TRAINING_NAME].map(|name| dir.join(name));
            written.extend(files.into_iter().filter(|path| path.exists()));
        } else {
            written.push(dir.join("config.json"));
            let weights = weight_files(dir);
            written.extend(weights.with_context(|| format!("cannot read {}", dir.display()))?);
            // The folder of a whole model should be usable by itself.
            let tokenizer = self.config.tokenizer.as_deref();
            written.extend(crate::beside::copy(&self.base, tokenizer, dir)?);
        }
        written.extend(embed::save(&self.config, &self.base, &outcome.model)?);
        written.extend([METRICS_NAME, EVENTS_NAME].map(|name| dir.join(name)));
        written.extend([config_file, report.save(dir)?]);
        written.extend(write_card(&report, &self.config, &self.data)?);
        say("\nwritten:")?;
        for path in written.into_iter().chain(outcome.checkpoints) {
            say(format!("  {} ({})", path.display(), size(bytes_of(&path)?)))?;
        }
        let command = generate_command(&self.config, self.data.train.has_chats());
        say(format!("\ntry it: {command}"))
    }

    /// The numbers of a run that its report shows.
    fn counts(
        &self,
        outcome: &TrainOutcome<LanguageModel>,
        (trainable, all): (usize, usize),
    ) -> Vec<(String, String)> {
        let share = 100.0 * trainable as f64 / all.max(1) as f64;
        let trained = format!("trained parameters ({share:.2}\u{a0}%)");
        let mut counts = vec![
            ("mean training loss", format!("{:.3}", outcome.train_loss)),
            ("steps", thousands(outcome.steps)),
            ("epochs", format!("{:.2}", outcome.epoch)),
            ("examples", thousands(self.data.train.rows())),
            ("tokens seen", thousands(outcome.tokens)),
            (&trained, thousands(trainable)),
            (
                "time",
                clock(Duration::from_secs_f64(outcome.train_runtime)),
            ),
        ];
        if let Some(bytes) = peak_memory_bytes(&outcome.model.device()) {
            counts.push(("peak memory", size(bytes)));
        }
        let counts = counts.into_iter();
        counts
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }
}

/// The name of a run: its folder.
fn run_name(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    name.to_string_lossy().into_owned()
}

/// When, with which version and where a run takes place.
fn made(device: &Device) -> String {
    format!(
        "{} UTC · peft {} · {} · {} {}",
        chrono::Utc::now().format("%Y-%m-%d %H:%M"),
        env!("CARGO_PKG_VERSION"),
        product(device),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// The size of a file, or of all files in a folder.
fn bytes_of(path: &Path) -> Result<u64> {
    let cannot = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        return Ok(fs::metadata(path).with_context(cannot)?.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).with_context(cannot)? {
        bytes += bytes_of(&entry.with_context(cannot)?.path())?;
    }
    Ok(bytes)
}
