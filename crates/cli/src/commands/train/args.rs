//! The command line of `peft train`.

use std::path::PathBuf;

use crate::loading::rows_help;

const EXAMPLE: &str = "\
Examples:
  peft train configs/quickstart.toml
  peft train configs/quickstart.toml --dry-run
  peft train configs/quickstart.toml --resume
  peft train configs/quickstart.toml --resume=auto      # in a job that may be started again
  peft train configs/quickstart.toml --force
  peft train configs/movie-reviews-gpt2.toml --set model=models/gpt2 --set training.max_steps=20

A training file:
  model = \"gpt2\"                       # a folder, a GGUF file or a Hub id
  prompt = \"The film was\"              # continued before and after
  [data]
  train = \"reviews.jsonl[:500]\"        # a file, a folder, or a data set on the Hub; or a list of them
  validation_split = 50
  [peft]                               # the keys of adapter_config.json
  peft_type = \"LORA\"
  r = 8
  [training]                           # the keys of transformers' TrainingArguments
  output_dir = \"out\"
  num_train_epochs = 3

With adapter = \"DIR\" instead of [peft], a saved adapter is trained further; peft_type = \"NONE\"
trains all weights of the model.";

/// The text below the options.
fn after_help() -> String {
    format!("{EXAMPLE}\n\n{}", rows_help())
}

/// The message of `peft train` without a file.
pub const NO_FILE: &str = "\
peft train needs a training file: which model, which data, which adapter, and how it is trained

  peft new my-run            writes my-run.toml, a file with a comment on every line
  peft train my-run.toml     trains as the file says

See also: peft train --help
";

/// The command line of `peft train`.
#[derive(clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// The training file (TOML); `peft new` writes one
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Change a key of the file; can be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub overrides: Vec<String>,
    /// Resume from a checkpoint: the one named, or else the newest in training.output_dir; with
    /// `auto`, start over if there is no complete checkpoint
    #[arg(long, value_name = "DIR|auto", num_args = 0..=1, conflicts_with_all = ["print_config", "dry_run"])]
    pub resume: Option<Option<PathBuf>>,
    /// Start over in the folder of an earlier run, whose results are removed
    #[arg(long, conflicts_with_all = ["print_config", "dry_run"])]
    pub force: bool,
    /// Show every value and its origin (default, file or flag), and stop
    #[arg(long)]
    pub print_config: bool,
    /// Prepare everything, run two steps, show the memory and time that a run takes, and stop
    #[arg(long, conflicts_with = "print_config")]
    pub dry_run: bool,
    /// Save an adapter that took a part of the model's weights (PiSSA, OLoRA) as a LoRA adapter of
    /// twice the rank, for the untouched model
    #[arg(long, conflicts_with_all = ["print_config", "dry_run"])]
    pub save_converted: bool,
    /// Show Burn's dashboard in the terminal
    #[arg(long, conflicts_with_all = ["print_config", "dry_run"])]
    pub tui: bool,
}

fn key_value(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_string()),
        _ => Err("expected KEY=VALUE, such as training.max_steps=20".to_string()),
    }
}
