//! `peft convert`: converts an adapter of another method to a LoRA adapter for the unchanged model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use burn_peft::DEFAULT_ADAPTER;
use burn_peft::files::{WEIGHTS_NAME, read_config, write_adapter};
use burn_peft::tensor_file::read_tensors;

use super::combine::written;
use super::merge::check_output;
use crate::beside;
use crate::loading::{find_model, load_adapter, load_base};
use crate::output::say;

const EXAMPLE: &str = "\
Examples:
  peft convert --model gpt2 --adapter out --rank 16 --output out-as-lora
  peft convert --adapter pissa --initial pissa-untrained --output pissa-as-lora

Works for every method that changes weights. What the rank cannot hold is lost: the printed error is
the norm of what is missing, as a share of the norm of all changes; 0 is exact.

PiSSA and OLoRA take a part of the model's weights. With --initial, the same adapter as it was saved
before training, the result is exact, has twice the rank, and needs no model (as with PEFT's
path_initial_model_for_weight_conversion); `peft train --save-converted` saves it directly.";

/// The command line of `peft convert`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The model that the adapter was trained on: a folder, a GGUF file or a Hub id
    #[arg(long, value_name = "DIR|ID", required_unless_present = "initial")]
    model: Option<String>,
    /// The adapter's folder
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The rank of the LoRA adapter
    #[arg(long, value_name = "R", default_value_t = 8)]
    rank: usize,
    /// The adapter as it was before training, if it took a part of the weights
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "rank"])]
    initial: Option<PathBuf>,
    /// The folder for the LoRA adapter
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace an adapter in an output folder that is not empty
    #[arg(long)]
    force: bool,
}

/// Runs `peft convert`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    check_output(&args.output, args.force)?;
    ensure!(
        args.adapter != args.output,
        "{} is the adapter itself, choose another --output",
        args.output.display()
    );
    if let Some(initial) = &args.initial {
        let read = |folder: &Path| read_tensors(&folder.join(WEIGHTS_NAME));
        let config = read_config(&args.adapter)?;
        let now = read(&args.adapter)?.into_iter().collect();
        let (config, tensors) = config.subtract_initial(now, read(initial)?)?;
        write_adapter(&args.output, config.as_ref(), tensors)?;
        beside::copy_of_embedder(&args.adapter, &args.output)?;
        return written(&args.output);
    }
    let files = find_model(args.model.as_deref().context("--model is missing")?)?;
    let model = load_adapter(
        load_base(&files, std::slice::from_ref(&args.adapter), device)?,
        &args.adapter,
        false,
    )?;
    let conversion = model.convert_to_lora(DEFAULT_ADAPTER, args.rank)?;
    write_adapter(&args.output, &conversion.config, conversion.tensors)?;
    beside::copy_of_embedder(&args.adapter, &args.output)?;
    let share = |error: f64| format!("{:.2} %", 100.0 * error);
    let layers = &conversion.layers;
    let worst = layers.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let worst = worst.map(|(path, error)| format!(", most at {path} ({})", share(*error)));
    say(format!(
        "rank {} for {} layers: {} of the changes are lost{}",
        args.rank,
        layers.len(),
        share(conversion.error),
        worst.unwrap_or_default()
    ))?;
    written(&args.output)
}
