//! `peft train`: what a training file says.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use burn_peft::config::{Fields, TaskType};
use burn_peft::files::{CONFIG_NAME, WEIGHTS_NAME};
use burn_peft::methods::config_from_fields;
use burn_peft::parameters::{count, named_parameters, thousands, trainable_parameters_line};
use burn_peft::{Adaptable, DEFAULT_ADAPTER, PeftModel};
use burn_peft_data::{DataSet, Tokenizer};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, GenerationConfig, Gpt2Config};
use burn_peft_train::{
    METRICS_NAME, ProgressRenderer, TrainConfig, TrainOptions, TrainTarget, train,
};
use serde_json::Value;

use super::eval::{describe, measure};
use super::generate::{encode_prompt, end_tokens, stream};
use crate::loading::{find_model, find_tokenizer, limits, load_adapter, load_model};
use crate::output::{emit, say, size};

const EXAMPLE: &str = "\
Examples:
  peft train configs/quickstart.toml
  peft train configs/movie-reviews-gpt2.toml --set model=models/gpt2 --set training.max_steps=20

A training file:
  model = \"gpt2\"                       # a folder or a Hub id
  prompt = \"The film was\"              # continued before and after
  [data]
  train = \"reviews.jsonl[:500]\"        # {\"text\": …} or {\"prompt\": …, \"completion\": …} a line
  validation_split = 50
  [peft]                               # the keys of adapter_config.json
  peft_type = \"LORA\"
  r = 8
  [training]                           # the keys of transformers' TrainingArguments
  output_dir = \"out\"
  num_train_epochs = 3

adapter = \"DIR\" in place of [peft] goes on training a saved adapter; peft_type = \"NONE\" trains all
weights of the model.";

/// The new tokens of the prompt that is continued before and after.
const NEW_TOKENS: usize = 80;

/// The command line of `peft train`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The training file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Change a key of the file; can be given many times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    overrides: Vec<String>,
}

fn key_value(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_string()),
        _ => Err("expected KEY=VALUE, such as training.max_steps=20".to_string()),
    }
}

/// Runs `peft train`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let config = TrainConfig::from_file(&args.file, &args.overrides)?;
    let files = find_model(&config.model)?;
    let tokenizer = find_tokenizer(&files, config.tokenizer.as_deref())?;
    let model = load_model(&files, device)?;
    let seed = config.training.seed;
    let data = DataSet::load(
        &config.data,
        tokenizer.as_ref(),
        limits(model.config()),
        seed,
    )?;

    let prompt = Prompt::new(&config, tokenizer.as_ref(), model.config())?;

    let before = format!("model {}:\n{}\n", config.model, model.tree());
    let job = Job {
        config,
        tokenizer,
        data,
        prompt,
    };
    if job.config.is_full_training() {
        let (trainable, all) = count(&named_parameters(&model));
        emit(&before)?;
        say(trainable_parameters_line(trainable, all))?;
        return job.run(model, &["config.json", "model.safetensors"]);
    }
    device.seed(seed);
    let model = attach(model, &job.config, &args.file)?;
    emit(&before)?;
    emit(&format!("\nwith the adapter:\n{}\n", model.tree()))?;
    say(model.trainable_parameters())?;
    job.run(model, &[CONFIG_NAME, WEIGHTS_NAME])
}

/// The model with the adapter that is to be trained: a new one, or the saved one.
fn attach(
    model: GPT2LMHeadModel,
    config: &TrainConfig,
    file: &Path,
) -> Result<PeftModel<GPT2LMHeadModel>> {
    let mut model = match &config.adapter {
        Some(adapter) => load_adapter(model, Path::new(adapter), true)?,
        None => {
            let mut keys = config.peft.clone().unwrap_or_default();
            keys.entry("peft_type")
                .or_insert_with(|| Value::from("LORA"));
            let fields = Fields::new(keys, format!("{} [peft]", file.display()));
            PeftModel::new(model, DEFAULT_ADAPTER, config_from_fields(fields)?)?
        }
    };
    let is_new = config.adapter.is_none();
    model.update_config(DEFAULT_ADAPTER, |common| {
        common.task_type.get_or_insert(TaskType::CausalLm);
        if is_new || common.base_model_name_or_path.is_none() {
            common.base_model_name_or_path = Some(config.model.clone());
        }
    })?;
    Ok(model)
}

/// What is done with a model, whatever of it is trained.
struct Job {
    config: TrainConfig,
    tokenizer: Option<Tokenizer>,
    data: DataSet,
    prompt: Option<Prompt>,
}

impl Job {
    /// Trains; `files` are those that the model itself is saved in.
    fn run<T: TrainTarget>(self, model: T, files: &[&str]) -> Result<()> {
        say(format!(
            "\n{}: {} examples, {} tokens",
            self.data.train.file,
            thousands(self.data.train.len()),
            thousands(self.data.train.tokens())
        ))?;
        say("before training:")?;
        self.assess(&model)?;
        say("")?;

        let arguments = &self.config.training;
        let config_file = self.config.save()?;
        let options = TrainOptions {
            renderer: Box::new(ProgressRenderer::new(arguments.logging_steps)),
            ..TrainOptions::default()
        };
        let data = self.data.clone();
        let outcome = train(model, data.train, data.validation, arguments, options)?;
        if let Some(reason) = &outcome.interrupted {
            say(format!("stopped early: {reason}"))?;
        }
        say(format!(
            "\nafter training, {} steps in {:.0} s, {} tokens, train_loss {:.4}:",
            outcome.steps,
            outcome.train_runtime,
            thousands(outcome.tokens),
            outcome.train_loss
        ))?;
        self.assess(&outcome.model)?;

        let dir = &arguments.output_dir;
        let mut written: Vec<PathBuf> = files.iter().map(|name| dir.join(name)).collect();
        if let (true, Some(tokenizer)) = (self.config.is_full_training(), &self.tokenizer) {
            // A whole model's folder is to be of use as it is.
            written.push(dir.join("tokenizer.json"));
            tokenizer.save(dir.join("tokenizer.json"))?;
        }
        written.extend([dir.join(METRICS_NAME), config_file]);
        say("\nwritten:")?;
        for path in written.into_iter().chain(outcome.checkpoints) {
            say(format!("  {} ({})", path.display(), size(bytes_of(&path)?)))?;
        }
        say(format!("\ntry it: {}", self.generate_command()))
    }

    /// How the result is used.
    fn generate_command(&self) -> String {
        let dir = self.config.training.output_dir.display();
        if self.config.is_full_training() {
            return format!("peft generate --model {dir} --prompt TEXT");
        }
        let tokenizer = self.config.tokenizer.as_ref();
        let tokenizer = tokenizer.map(|path| format!(" --tokenizer {path}"));
        format!(
            "peft generate --model {} --adapter {dir}{} --prompt TEXT",
            self.config.model,
            tokenizer.unwrap_or_default()
        )
    }

    /// Prints the loss on the validation data and the prompt's continuation, where there are any.
    fn assess(&self, model: &impl CausalLm) -> Result<()> {
        if let Some(validation) = &self.data.validation {
            let batch_size = self.config.training.per_device_eval_batch_size;
            let result = measure(model, validation, batch_size)?;
            say(format!("  evaluation: {}", describe(&result)))?;
        }
        match &self.prompt {
            Some(prompt) => prompt.show(model),
            None => Ok(()),
        }
    }
}

/// The text that is continued before and after.
struct Prompt {
    text: String,
    ids: Vec<u32>,
    tokenizer: Tokenizer,
    settings: GenerationConfig,
}

impl Prompt {
    fn new(
        config: &TrainConfig,
        tokenizer: Option<&Tokenizer>,
        model: &Gpt2Config,
    ) -> Result<Option<Self>> {
        let Some(text) = &config.prompt else {
            return Ok(None);
        };
        let tokenizer = tokenizer.context(
            "`prompt` needs a tokenizer, and the model's folder has none: name one with `tokenizer`",
        )?;
        let ids = encode_prompt(tokenizer, text)?;
        ensure!(
            ids.len() < model.n_positions,
            "`prompt` has {} tokens, which leaves no room in the model's n_positions {}: shorten it",
            ids.len(),
            model.n_positions
        );
        let settings = GenerationConfig {
            max_new_tokens: NEW_TOKENS.min(model.n_positions - ids.len()),
            eos_token_ids: end_tokens(model, tokenizer),
            ..GenerationConfig::default()
        };
        Ok(Some(Self {
            text: text.clone(),
            ids,
            tokenizer: tokenizer.clone(),
            settings,
        }))
    }

    /// Prints the prompt and what the model goes on with.
    fn show(&self, model: &impl CausalLm) -> Result<()> {
        let mut show = |text: &str| emit(&text.replace('\n', "\n    "));
        emit("  prompt: ")?;
        show(&self.text)?;
        emit("\n  continued: ")?;
        show(&self.text)?;
        stream(model, &self.tokenizer, &self.ids, &self.settings, &mut show)?;
        say("")
    }
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
