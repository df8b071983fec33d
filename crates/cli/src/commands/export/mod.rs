//! `peft export`: writes a model, with adapters merged, as one GGUF file.

mod modelfile;
mod proof;
mod source;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, FloatDType};
use burn_peft_models::gguf::{Contents, GgufAdapter, GgufModel, OutType};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{self, MergedWeights, Weights};

use self::proof::Proof;
use self::source::Source;
use super::merge::check_output;
use crate::beside;
use crate::loading::find_tokenizer;
use crate::output::{bar_of_values, counted, say, size};
use crate::output_file::{OutputFile, check_input, folder_beside};

const EXAMPLE: &str = "\
Examples:
  peft export --model smollm2 --adapter out --output mine.gguf --outtype q8_0
  peft export --model smollm2 --adapter out --output mine-lora.gguf --lora
  peft export --model mine.gguf --output folder --to safetensors

The file is what llama.cpp, Ollama and LM Studio run: configuration, weights, tokenizer and chat
template in one. Types are f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_m and q6_k. Norms, biases
and other vectors stay in f32, and rows that a type's blocks do not fit get a similar type, as in
llama.cpp. Only a few tensors are in memory at a time. With --lora, only the adapter is written, for
`llama-cli --lora` with the model's own file; what such a file cannot hold is an error.";

/// The command line of `peft export`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The model: a folder, a GGUF file or a Hub id
    #[arg(long, value_name = "DIR|FILE|ID")]
    model: String,
    /// An adapter's folder, whose adapter becomes part of the weights; several in turn
    #[arg(long, value_name = "DIR")]
    adapter: Vec<PathBuf>,
    /// The file that is written; with --to safetensors a folder
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The type of most weights: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_m or q6_k
    /// [default: the type in the model's files; f32 for quantised models and for adapters]
    #[arg(long, value_name = "TYPE")]
    outtype: Option<OutType>,
    /// Write the adapter alone, not merged
    #[arg(long)]
    lora: bool,
    /// What to write: one GGUF file, or a folder in transformers' format
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        conflicts_with = "lora"
    )]
    to: Format,
    /// The tokenizer to write with it, if it is not with the model: a folder, a GGUF file or a Hub
    /// id
    #[arg(long, value_name = "PATH|ID", conflicts_with = "lora")]
    tokenizer: Option<String>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    /// Skip reading the file back and comparing it with the model, which needs memory for one and
    /// then the other
    #[arg(long)]
    no_proof: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
enum Format {
    /// One file for llama.cpp
    #[default]
    Gguf,
    /// A folder with config.json and model.safetensors
    Safetensors,
}

/// Runs `peft export`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let start = Instant::now();
    let inputs = [Path::new(&args.model)].into_iter();
    let inputs = inputs.chain(args.adapter.iter().map(PathBuf::as_path));
    // A tokenizer's folder may contain other files.
    let tokenizer = args.tokenizer.as_deref().map(Path::new);
    check_input(
        &args.output,
        inputs.chain(tokenizer.filter(|path| path.is_file())),
    )?;
    if args.to == Format::Safetensors {
        return to_folder(&args, device, start);
    }
    let place = OutputFile::gguf(&args.output, args.force)?;
    if args.lora {
        let [adapter] = args.adapter.as_slice() else {
            bail!("--lora writes one adapter alone: give one --adapter");
        };
        let source = Source::open(&args.model, &args.adapter, device)?;
        source.check_language_model()?;
        let contents = GgufAdapter {
            model: source.adapted().expect("an adapter was given"),
            weights: weights::open(&source.files)?.as_ref(),
            folder: adapter,
            keys: source::named(adapter),
        }
        .write(
            place.file(),
            &args.output,
            args.outtype.unwrap_or(OutType::of(FloatDType::F32)),
        )?;
        let files = source.files.clone();
        drop(source);
        let out_type = OutType::of(FloatDType::F32);
        prove(&args, &place, &files, &contents, out_type, device)?;
        return finish(&args, place, &files, contents, start);
    }
    let source = Source::open(&args.model, &args.adapter, device)?;
    source.check_language_model()?;
    let mut keys = source::named(Path::new(&args.model));
    let tokenizer = source.tokenizer_keys(args.tokenizer.as_deref())?;
    if tokenizer.is_empty() {
        tracing::warn!(
            "{} has no tokenizer, because {} has no {}: llama.cpp reads no such model; --tokenizer \
             names one to put there",
            args.output.display(),
            args.model,
            beside::tokenizer_names()
        );
    }
    keys.extend(tokenizer);
    let files = source.files.clone();
    let merged = source.merged()?;
    let out_type = args.outtype.unwrap_or(OutType::of(merged.dtype()));
    let contents = {
        let config = &merged.config();
        let bar = bar_of_values("writing", number_of_values(&merged));
        let model = GgufModel {
            config,
            weights: &merged,
            keys,
        };
        let written = model.write(place.file(), &args.output, out_type, &mut |values| {
            bar.inc(values)
        });
        bar.finish_and_clear();
        written?
    };
    drop(merged);
    prove(&args, &place, &files, &contents, out_type, device)?;
    finish(&args, place, &files, contents, start)
}

/// Reads the written file back and compares it with the trained model.
fn prove(
    args: &Args,
    place: &OutputFile,
    files: &ModelFiles,
    contents: &Contents,
    out_type: OutType,
    device: &Device,
) -> Result<()> {
    for note in &contents.notes {
        tracing::warn!("{note}");
    }
    if args.no_proof {
        return say("no proof: the file was not read back (--no-proof)");
    }
    let proof = Proof {
        file: place.file(),
        is_adapter: args.lora,
        model: &args.model,
        files,
        adapters: &args.adapter,
        out_type: args.outtype.unwrap_or(out_type),
        tokenizer: args.tokenizer.as_deref(),
        device,
    };
    proof.run()
}

fn number_of_values(weights: &dyn Weights) -> u64 {
    let shapes = weights.names().filter_map(|name| weights.shape(name));
    shapes
        .map(|shape| shape.iter().product::<usize>() as u64)
        .sum()
}

/// Renames the written file and prints what it is.
fn finish(
    args: &Args,
    place: OutputFile,
    files: &ModelFiles,
    contents: Contents,
    start: Instant,
) -> Result<()> {
    let output = place.keep()?;
    let types = contents.types.iter();
    let types = types.map(|(of, tensors, _)| format!("{} in {of}", counted(*tensors, "tensor")));
    say(format!(
        "{} ({}): {}, {:.1} seconds",
        output.display(),
        size(contents.bytes),
        types.collect::<Vec<_>>().join(", "),
        start.elapsed().as_secs_f64()
    ))?;
    let from = if args.lora {
        Path::new(&args.model)
    } else {
        &output
    };
    if !from.is_file() {
        return say(
            "no Modelfile for Ollama: an adapter gets one only if its model is a GGUF file",
        );
    }
    let tokenizer = find_tokenizer(files, args.tokenizer.as_deref())?;
    modelfile::write(&output, from, files, tokenizer.as_ref(), args.force)
}

/// Writes a folder in transformers' format.
fn to_folder(args: &Args, device: &Device, start: Instant) -> Result<()> {
    check_output(&args.output, args.force)?;
    let dtype = match args.outtype {
        None => None,
        Some(of) => Some(of.dtype().with_context(|| {
            format!("--outtype {of}: a folder of safetensors is written in f32, f16 or bf16")
        })?),
    };
    let source = Source::open(&args.model, &args.adapter, device)?;
    let files = source.files.clone();
    let merged: MergedWeights = source.merged()?;
    let folder = folder_beside(&args.output)?;
    let unfinished = crate::interrupt::Unfinished::new(folder.path())?;
    let dtype = match dtype {
        Some(dtype) => dtype,
        None => merged.written_dtype()?,
    };
    merged.save(folder.path(), dtype)?;
    beside::copy(&files, args.tokenizer.as_deref(), folder.path())?;
    let written = unfinished.kept(|| super::merge::put(folder.path(), &args.output));
    let written = written.with_context(|| format!("cannot write {}", args.output.display()))?;
    ensure!(!written.is_empty(), "nothing was written");
    for (path, bytes) in written {
        say(format!("{} ({})", path.display(), size(bytes)))?;
    }
    say(format!("{:.1} seconds", start.elapsed().as_secs_f64()))
}
