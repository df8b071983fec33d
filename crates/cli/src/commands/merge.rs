//! `peft merge`: merges an adapter into the weights.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor};
use burn_peft::PeftModel;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::weight_files;
use burn_peft_models::{AutoModel, CausalLm, ModelInput, Pretrained};
use burn_peft_train::RunFolder;

use crate::beside;
use crate::interrupt::Unfinished;
use crate::loading::{find_model, load_adapter, load_base, model_input, open_tokenizer};
use crate::output::{say, size};
use crate::output_file::folder_beside;

const EXAMPLE: &str = "\
Example:
  peft merge --model gpt2 --adapter out --output gpt2-merged

The output is a model folder in transformers' format: config.json, model.safetensors (in the type of the
original model: float32, bfloat16 or float16; above 5 GB several files with an index) and the model's
tokenizer. It no longer needs the adapter. If the model has no tokenizer files, the output has none, and
a warning says so; --tokenizer names one.";

/// The command line of `peft merge`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The model that the adapter was trained on: a folder, a GGUF file or a Hub id
    #[arg(long, value_name = "DIR|ID")]
    model: String,
    /// The adapter's folder
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The folder for the merged model
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The tokenizer to write with it, if it is not with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Replace files of the same names in an output folder that is not empty
    #[arg(long)]
    force: bool,
}

/// Runs `peft merge`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    check_output(&args.output, args.force)?;
    let files = find_model(&args.model)?;
    let has_tokenizer = match &args.tokenizer {
        // Checks that it can be read before anything is written.
        Some(given) => open_tokenizer(given).map(|_| true)?,
        None => !beside::tokenizer_files(&files)?.is_empty(),
    };
    let model = load_adapter(
        load_base(&files, std::slice::from_ref(&args.adapter), device)?,
        &args.adapter,
        false,
    )?;

    let probe = probe(&model, device);
    let before = model.forward(probe.clone());
    let merged = model
        .merge_and_unload(true)
        .context("cannot merge the adapter")?;
    let after = merged.forward(probe);
    let change = largest_change(before, after)?;

    let written = write(&merged, &files, &args)?;
    say(format!(
        "largest change of a logit by merging: {change:.3e}"
    ))?;
    for (path, bytes) in written {
        say(format!("{} ({})", path.display(), size(bytes)))?;
    }
    if !has_tokenizer {
        let (model, output) = (&args.model, args.output.display());
        tracing::warn!(
            "{output} has no tokenizer, because {model} has no {}: --tokenizer names one to put \
             there, or the commands that need one",
            beside::tokenizer_names()
        );
    }
    Ok(())
}

/// Whether a folder can be written to: it is new or empty, or `force` is set.
pub fn check_output(output: &Path, force: bool) -> Result<()> {
    let place = output.display();
    if !output.exists() {
        return Ok(());
    }
    ensure!(output.is_dir(), "{place} is a file, --output is a folder");
    RunFolder::check_not_in_use(output)?;
    let mut entries = fs::read_dir(output).with_context(|| format!("cannot read {place}"))?;
    if entries.next().is_some() && !force {
        bail!("{place} is not empty: choose another --output, or give --force to write into it");
    }
    Ok(())
}

/// Two rows of token ids from all over the vocabulary, always the same.
fn probe(model: &PeftModel<AutoModel>, device: &Device) -> ModelInput {
    let seq = model.max_positions().min(32);
    let vocab_size = model.vocab_size() as u64;
    // A multiplicative hash (Knuth's): spreads well without a seed.
    let ids = (1..=2 * seq as u64).map(|i| (i.wrapping_mul(2_654_435_761) % vocab_size) as i64);
    model_input(ids.collect(), None, [2, seq], device)
}

/// The largest difference between two tensors' elements. A NaN on either side is an error.
fn largest_change(before: Tensor<3>, after: Tensor<3>) -> Result<f32> {
    let change = (after - before).abs().into_data().convert::<f32>();
    let mut largest = 0.0;
    for value in change.iter::<f32>() {
        ensure!(
            value.is_finite(),
            "the logits of a probe batch are not finite with this adapter: nothing is written"
        );
        largest = value.max(largest);
    }
    Ok(largest)
}

/// Writes the model's folder, with the files beside the weights, under a temporary name beside its
/// destination, then moves it there.
fn write(model: &AutoModel, files: &ModelFiles, args: &Args) -> Result<Vec<(PathBuf, u64)>> {
    let (output, tokenizer) = (&args.output, args.tokenizer.as_deref());
    let folder = folder_beside(output)?;
    let unfinished = Unfinished::new(folder.path())?;
    model.save_pretrained(folder.path())?;
    beside::copy(files, tokenizer, folder.path())?;
    if model.head().is_none() {
        beside::copy_sentence_files(&args.adapter, folder.path())?;
    }
    let written = unfinished.kept(|| put(folder.path(), output));
    written.with_context(|| format!("cannot write {}", output.display()))
}

/// Moves a folder or, if the destination exists, its files. Returns the files' new paths and sizes.
pub fn put(folder: &Path, output: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let mut names = Vec::new();
    list(folder, Path::new(""), &mut names)?;
    names.sort();
    // Fails if it is not empty: then the files are moved one by one.
    if !output.exists() || fs::remove_dir(output).is_ok() {
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(folder, output)?;
    } else {
        for (name, _) in &names {
            if let Some(parent) = output.join(name).parent() {
                fs::create_dir_all(parent)?;
            }
            fs::rename(folder.join(name), output.join(name))?;
        }
        // An earlier model's weights must not be taken for this one's.
        for old in weight_files(output)? {
            if !names.iter().any(|(name, _)| output.join(name) == old) {
                fs::remove_file(old)?;
            }
        }
    }
    Ok(names
        .into_iter()
        .map(|(name, bytes)| (output.join(name), bytes))
        .collect())
}

/// The files in and below a folder, relative to it, with their sizes.
fn list(folder: &Path, below: &Path, names: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(folder, &name, names)?;
        } else {
            names.push((name, entry.metadata()?.len()));
        }
    }
    Ok(())
}
