//! `peft new`: writes a training file to start from.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_peft::config::TaskType;
use burn_peft_data::{
    DataConfig, Questions, SlicedPath, folder_and_split, suggest_columns, suggest_objective,
};
use burn_peft_models::AutoConfig;
use burn_peft_models::hub::HubOptions;
use burn_peft_train::ObjectiveName;
use clap::ValueEnum;
use serde_json::Value;

use crate::loading::find_data;
use crate::output::say;

const EXAMPLE: &str = "\
Examples:
  peft new my-run
  peft new my-run --objective dpo --train pairs.jsonl
  peft new runs/poems --template full --model models/tiny --train 'poems.txt'

The file explains every key. Nothing else is written.";

/// The command line of `peft new`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The name of the run: NAME.toml is written, and the run goes to runs/NAME
    #[arg(value_name = "NAME")]
    name: PathBuf,
    /// What is trained
    #[arg(long, value_enum, default_value_t)]
    template: Template,
    /// The model: a folder, or a Hub id [default: gpt2, for chats
    /// HuggingFaceTB/SmolLM2-135M-Instruct, for labels and tags distilbert/distilbert-base-uncased, for
    /// embeddings sentence-transformers/all-MiniLM-L6-v2]
    #[arg(long, value_name = "DIR|ID")]
    model: Option<String>,
    /// The rows to train on: a file, a folder, or a data set on the Hub
    #[arg(long, value_name = "FILE", default_value = "data.jsonl")]
    train: String,
    /// What the model is trained for: sft, dpo, classify, tag, embed, … [default: by the columns of the
    /// rows: dpo with `chosen` and `rejected`, classify with a `label`, tag with `tokens` and tags, embed
    /// with texts to compare, else sft]
    #[arg(long, value_name = "NAME")]
    objective: Option<ObjectiveName>,
    /// Replace an existing file of that name
    #[arg(long)]
    force: bool,
}

/// The files to start from.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Template {
    /// An adapter of small matrices (LoRA)
    #[default]
    Lora,
    /// All weights of the model
    Full,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Lora => include_str!("../../templates/lora.toml"),
            Self::Full => include_str!("../../templates/full.toml"),
        }
    }
}

/// The default model.
const MODEL: &str = "gpt2";

/// The default for chats, which need a model with a chat template.
const CHAT_MODEL: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";

/// An encoder, for an objective that trains one, and the page that describes its rows.
fn encoder(objective: ObjectiveName) -> Option<(&'static str, &'static str)> {
    match objective.kind().name {
        "classify" | "tag" => Some((
            "distilbert/distilbert-base-uncased",
            "docs/classification.md",
        )),
        "embed" => Some((
            "sentence-transformers/all-MiniLM-L6-v2",
            "docs/embeddings.md",
        )),
        _ => None,
    }
}

/// Longer rows are cut, or those that exceed the model's positions.
const MAX_LENGTH: usize = 512;

/// The positions of a local model; a missing one may come later, and nothing is fetched.
fn positions(model: &str) -> Result<Option<usize>> {
    let hub = HubOptions {
        offline: true,
        ..HubOptions::from_env()
    };
    let Ok(files) = hub.resolve(model, &["config.json"], &[]) else {
        return Ok(None);
    };
    let config = AutoConfig::from_file(files.get("config.json")?)?;
    Ok(Some(config.common().max_positions))
}

/// The prompt lines for a file of chats.
const QUESTIONS: &str = "\
# A user's messages to answer before training, at every evaluation and after training. Without this
# key, they are some of the questions in the validation rows.
# prompt = [\"What can you do?\"]";

/// The lines for the columns of `train` and the run's prompt, and whether the rows are chats. A
/// missing file may come later, and nothing is fetched.
fn columns(train: &str) -> (String, String, bool) {
    let mut config = DataConfig::new(train);
    let (mut sample, mut is_chat) = (None, false);
    let is_here = |path: &str| Path::new(path).exists();
    if is_here(train) || is_here(SlicedPath::new(train).path) {
        // The training file is useful anyway: problems with the rows can be fixed later.
        let find = |name: &str| folder_and_split(name).map_or(Ok(None), |_| find_data(name));
        match suggest_columns(&mut config, &find) {
            Ok(found) => sample = found,
            Err(error) => tracing::warn!("{error}"),
        }
        let first = BTreeSet::from([1]);
        let first = Questions::read(train, &config, &find, Some(&first));
        is_chat = first.is_ok_and(|first| first.shape.is_chat());
    }
    let columns = match (config.template, config.completion_field) {
        (Some(template), Some(column)) => format!(
            "# A row's prompt, in which {{column}} stands for a column's value, and the column of the answer.\n\
             template = {}\ncompletion_field = {}",
            quoted(template),
            quoted(column)
        ),
        _ => "# Rows with other columns need two more keys, such as template = \"{question}\\n\" for the prompt\n\
              # and completion_field = \"answer\" for the column of the answer."
            .to_string(),
    };
    if is_chat {
        return (columns, QUESTIONS.to_owned(), true);
    }
    let sample = sample.unwrap_or_else(|| "Once upon a time".to_string());
    let prompt = format!(
        "# A text to continue before training, at every evaluation and after training, such as the \
         beginning of one of your texts.\nprompt = {}",
        quoted(sample)
    );
    (columns, prompt, false)
}

/// Runs `peft new`.
pub fn run(args: Args) -> Result<()> {
    let is_toml = args.name.extension().is_some_and(|end| end == "toml");
    let file = if is_toml {
        args.name.clone()
    } else {
        PathBuf::from(format!("{}.toml", args.name.display()))
    };
    let Some(name) = file
        .file_stem()
        .filter(|_| !args.name.as_os_str().is_empty())
    else {
        bail!("{:?} is not a name for a run, such as my-run", args.name);
    };
    let output_dir = format!("runs/{}", name.to_string_lossy());
    let place = file.display().to_string();
    let objective = objective(args.objective, &args.train);
    let encoder = encoder(objective);
    let (columns, mut prompt, is_chat) = match encoder {
        Some((_, docs)) => {
            let columns = format!("# This objective reads other columns, which {docs} lists.");
            (columns, String::new(), false)
        }
        None => columns(&args.train),
    };
    if objective.kind().task_type != TaskType::CausalLm {
        // It contains no conversation.
        prompt.clear();
    }
    let model = args.model.unwrap_or_else(|| {
        let model = if is_chat { CHAT_MODEL } else { MODEL };
        encoder.map_or(model, |(model, _)| model).to_owned()
    });
    let max_length = positions(&model)?.map_or(MAX_LENGTH, |n| n.min(MAX_LENGTH));
    let text = [
        ("{file}", place.clone()),
        ("{max_length}", max_length.to_string()),
        ("{model}", quoted(model)),
        ("{output_dir}", quoted(output_dir)),
        ("{columns}", columns),
        ("{train}", quoted(args.train)),
        ("{sample}", prompt),
    ]
    .iter()
    .fold(args.template.text().to_string(), |text, (key, value)| {
        text.replace(key, value)
    });

    let text = with_objective(text, objective);

    let mut options = File::options();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut out = match options.open(&file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{place} already exists: choose another name, or give --force to replace it")
        }
        opened => opened.with_context(|| format!("cannot write {place}"))?,
    };
    let written = out.write_all(text.as_bytes());
    written.with_context(|| format!("cannot write {place}"))?;
    say(format!(
        "{place} is written. Look through it, then:\n  peft train {place} --dry-run\n  peft train {place}"
    ))
}

/// The objective, from the option or from existing rows.
fn objective(said: Option<ObjectiveName>, train: &str) -> ObjectiveName {
    said.unwrap_or_else(|| {
        let is_here = |path: &str| Path::new(path).exists();
        let find = |name: &str| folder_and_split(name).map_or(Ok(None), |_| find_data(name));
        let is_here = is_here(train) || is_here(SlicedPath::new(train).path);
        let suggest = || suggest_objective(train, &DataConfig::new(train), &find).ok();
        let suggested = is_here.then(suggest).flatten().flatten();
        suggested.and_then(ObjectiveName::find).unwrap_or_default()
    })
}

/// The file with an objective other than the default, and the table of its keys.
fn with_objective(text: String, objective: ObjectiveName) -> String {
    if objective.is_default() {
        return text;
    }
    let (name, keys) = (objective.kind().name, (objective.kind().keys)());
    let task_type = objective.kind().task_type;
    let docs = match task_type {
        TaskType::FeatureExtraction => "docs/embeddings.md",
        _ if keys.contains(&"labels") => "docs/classification.md",
        _ => "docs/preference.md",
    };
    let text = text.replace(
        &format!("task_type = {}", TaskType::CausalLm),
        &format!("task_type = {task_type}"),
    );
    let chosen = format!(
        "[training]\n# What the model is trained for ({docs}); its keys are at the end of the \
         file.\nobjective = \"{name}\"\n"
    );
    let text = text.replacen("[training]\n", &chosen, 1);
    if keys.is_empty() {
        return text;
    }
    let beta = if keys.contains(&"beta") {
        "# How closely the policy is kept to its start, or how much the comparison counts.\n\
         beta = 0.1\n"
    } else {
        ""
    };
    format!(
        "{}\n\n# Keys: {}.\n[{name}]\n{beta}",
        text.trim_end(),
        keys.join(", ")
    )
}

/// A TOML string. TOML has JSON's escapes.
fn quoted(text: String) -> String {
    Value::from(text).to_string()
}
