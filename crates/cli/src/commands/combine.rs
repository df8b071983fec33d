//! `peft combine`: combines several adapters into one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn_peft::combine::{Combination, CombinationType, MajoritySign, WeightedAdapter, combine};
use burn_peft::files::{CONFIG_NAME, WEIGHTS_NAME, write_adapter};
use burn_peft_models::embeddings::Modules;
use burn_peft_models::hub::ModelFiles;

use super::merge::check_output;
use crate::beside;
use crate::output::{say, size};

const EXAMPLE: &str = "\
Examples:
  peft combine --adapter a:0.7 --adapter b:0.3 --method ties --density 0.2 --output both
  peft combine --adapter a --adapter b:-0.5 --method cat --output a-less-b

Methods, as in PEFT's add_weighted_adapter: linear, ties, dare_linear, dare_ties and magnitude_prune
sum the factors A and B separately, which is cheap and close to the sum of the effects; all ranks have
to be equal. cat is the exact sum; its rank is the sum of the ranks. svd, ties_svd, dare_linear_svd,
dare_ties_svd and magnitude_prune_svd combine the effects B A, at the cost of a decomposition for each
layer. Methods that prune need --density. IA3 adapters only have a linear sum: --method linear.";

/// The command line of `peft combine`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// An adapter's folder and its weight, 1 by default; a negative weight subtracts
    #[arg(long, required = true, value_name = "DIR[:WEIGHT]")]
    adapter: Vec<String>,
    /// How they are combined
    #[arg(long, value_name = "METHOD", default_value_t)]
    method: CombinationType,
    /// The share of values that pruning keeps
    #[arg(long, value_name = "SHARE")]
    density: Option<f64>,
    /// The rank of the result, with svd [default: the largest of the adapters]
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// How ties elects signs: total or frequency
    #[arg(long, value_name = "HOW", default_value = "total")]
    majority_sign_method: MajoritySign,
    /// Seed for the values that dare drops
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The folder for the new adapter
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace an adapter in an output folder that is not empty
    #[arg(long)]
    force: bool,
}

/// Runs `peft combine`.
pub fn run(args: Args) -> Result<()> {
    check_output(&args.output, args.force)?;
    let (mut adapters, mut folders) = (Vec::new(), Vec::new());
    for given in &args.adapter {
        let (folder, weight) = folder_and_weight(given);
        ensure!(
            folder != args.output,
            "{} is one of the adapters, choose another --output",
            folder.display()
        );
        let adapter = WeightedAdapter::read(&folder, weight);
        adapters.push(adapter.context("cannot load the adapter")?);
        folders.push(folder);
    }
    check_vectors(&folders)?;
    let combination = Combination {
        combination_type: args.method,
        svd_rank: args.rank,
        density: args.density,
        majority_sign_method: args.majority_sign_method,
        seed: args.seed,
    };
    let count = adapters.len();
    let combined = combine(adapters, &combination)?;
    let rank = combined
        .config
        .to_json()
        .get("r")
        .map(|r| format!("rank {r}, "));
    write_adapter(&args.output, combined.config.as_ref(), combined.tensors)?;
    if let Some(first) = folders.first() {
        beside::copy_of_embedder(first, &args.output)?;
    }
    say(format!(
        "{} of {count} adapters: {}{} layers",
        args.method,
        rank.unwrap_or_default(),
        combined.layers
    ))?;
    written(&args.output)
}

/// Rejects embedding adapters that do not turn texts into vectors in the same way.
fn check_vectors(folders: &[PathBuf]) -> Result<()> {
    let modules = |folder: &PathBuf| Modules::read(&ModelFiles::folder(folder));
    let Some((first, others)) = folders.split_first() else {
        return Ok(());
    };
    let wanted = modules(first)?;
    for other in others {
        ensure!(
            modules(other)? == wanted,
            "{} and {} make vectors of texts in different ways: the files of sentence-transformers beside \
             them (modules.json, 1_Pooling and so on) differ in pooling, length, letters or prompts, and an \
             adapter can have only one of the two",
            first.display(),
            other.display()
        );
    }
    Ok(())
}

/// Parses `DIR:WEIGHT`; a colon without a number after it belongs to the name.
fn folder_and_weight(given: &str) -> (PathBuf, f64) {
    let split = given.rsplit_once(':');
    let weighted = split.and_then(|(folder, weight)| Some((folder, weight.parse().ok()?)));
    match weighted {
        Some((folder, weight)) => (folder.into(), weight),
        None => (given.into(), 1.0),
    }
}

/// Prints an adapter's files with their sizes.
pub fn written(folder: &Path) -> Result<()> {
    for name in [CONFIG_NAME, WEIGHTS_NAME] {
        let path = folder.join(name);
        let bytes = path
            .metadata()
            .with_context(|| format!("{}", path.display()))?;
        say(format!("{} ({})", path.display(), size(bytes.len())))?;
    }
    Ok(())
}
