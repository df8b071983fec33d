//! `peft init`: creates a model with random weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn_peft::parameters::thousands;
use burn_peft_models::AutoConfig;
use burn_peft_models::weights::{SaveOptions, save_model, weight_files};
use burn_peft_train::RunFolder;

use crate::output::say;

const EXAMPLE: &str = "\
Examples:
  peft init gpt2 --output models/gpt2-random --seed 0
  peft init my-config.json --output models/mine

The weights are drawn as in transformers; the same seed gives the same file.";

/// The command line of `peft init`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[arg(value_name = "PRESET|CONFIG.JSON")]
    #[arg(help = format!("{}, or a config.json (or its folder)", AutoConfig::presets().join(", ")))]
    model: String,
    /// The folder for config.json and model.safetensors (for a large model, its shards)
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Replace existing weights in the folder
    #[arg(long)]
    force: bool,
}

/// Runs `peft init`.
pub fn run(args: Args) -> Result<()> {
    let config = read_config(&args.model)?;
    let place = args.output.display();
    ensure!(
        !args.output.is_file(),
        "{place} is a file, --output is a folder"
    );
    RunFolder::check_not_in_use(&args.output)?;
    let there = weight_files(&args.output).with_context(|| format!("cannot read {place}"))?;
    if let Some(weights) = there.first()
        && !args.force
    {
        bail!(
            "{} already exists: choose another --output, or give --force to replace it with \
             random weights",
            weights.display()
        );
    }
    let tensors = config.initial_weights(args.seed);
    let options = SaveOptions {
        finite: false,
        ..SaveOptions::default()
    };
    save_model(&args.output, &config.to_json(), tensors, &options)?;
    say(format!(
        "{place}: {} with {} random parameters, seed {}",
        config.common().model_type,
        thousands(config.num_parameters()),
        args.seed
    ))
}

fn read_config(model: &str) -> Result<AutoConfig> {
    if AutoConfig::presets().contains(&model) {
        return Ok(AutoConfig::preset(model)?);
    }
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(AutoConfig::from_file(path.join("config.json"))?);
    }
    if !path.exists() && !model.ends_with(".json") {
        bail!(
            "{model:?} is neither a preset nor a file; the presets are {}",
            AutoConfig::presets().join(", ")
        );
    }
    Ok(AutoConfig::from_file(path)?)
}
