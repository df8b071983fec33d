//! `peft forward`: computes logits for given token ids, or embeddings.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, TensorData};
use burn_peft::tensor_file::write_tensors;
use burn_peft::{BASE_ROW, DEFAULT_ADAPTER};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, forward_rows};

use crate::loading::{
    EmbedderArgs, ModelsArgs, find_model, head_for, load_adapter, load_kept, open, open_headless,
};
use crate::output::say;
use crate::token_rows::Rows;

const EXAMPLE: &str = "\
Examples:
  peft forward --model gpt2 --adapter out --input batch.safetensors --output logits.safetensors
  peft forward --model gpt2 --adapter a --adapter b --adapter-names a,__base__,b --input \
    batch.safetensors --output logits.safetensors

The input holds input_ids [batch, seq] (I64 or I32) and, for padded rows, attention_mask [batch, seq]
(1 for a token, 0 for padding). It may also hold position_ids [batch, seq] (without them, positions
count from the start of every row, padding included) and, for encoders, token_type_ids [batch, seq]
(1 in the second text of a pair). Other tensors are ignored.

The output holds logits [batch, seq, vocab] (F32). An adapter's virtual tokens have logits too, before
the others. For a text classifier the logits are [batch, labels], for a token classifier
[batch, seq, labels]. A model without a head, or with an adapter of task_type FEATURE_EXTRACTION, gives
last_hidden_state [batch, seq, d] instead.

With --pooling, or for a sentence-transformers folder, embeddings [batch, d] are written too: one vector
for each row, made from the hidden states of its tokens.";

/// The command line of `peft forward`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    model: ModelsArgs,
    /// The adapter of each row, separated by commas: the folder as in --adapter, __base__ for none
    #[arg(
        long,
        value_name = "NAMES",
        requires = "adapter",
        value_delimiter = ','
    )]
    #[arg(conflicts_with_all = ["merge", "disable", "pooling", "normalize"])]
    adapter_names: Vec<String>,
    /// Merge the adapter into the weights first
    #[arg(long, requires = "adapter", conflicts_with = "disable")]
    merge: bool,
    /// Switch the adapter off
    #[arg(long, requires = "adapter")]
    disable: bool,
    #[command(flatten)]
    embedder: EmbedderArgs,
    /// The file with input_ids, attention_mask and position_ids
    #[arg(long, value_name = "IN.safetensors")]
    input: PathBuf,
    /// The file for the logits or embeddings
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,
}

/// Runs `peft forward`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let rows = Rows::read(&args.input)?;
    let files = find_model(&args.model.model)?;
    let adapters = &args.model.adapter;
    if !args.adapter_names.is_empty() {
        let head = head_for(&files, adapters)?;
        let base = load_kept(&files, &args.model.kept, head, device)?;
        let logits = by_rows(&rows, base, &args, device)?;
        return write(&args.output, vec![("logits", logits)]);
    }
    ensure!(
        adapters.len() < 2,
        "several adapters are given: say with --adapter-names which row uses which"
    );
    let adapter = adapters.first().map(PathBuf::as_path);
    let kept = &args.model.kept;
    let mut model = if args.embedder.is_given() {
        open_headless(&files, adapter, kept, device)?
    } else {
        open(&files, adapter, kept, device)?
    };
    if let Some(model) = model.as_peft_mut() {
        if args.merge {
            model.merge_adapter(false)?;
        }
        if args.disable {
            model.disable_adapter_layers();
        }
    }
    let logits = model.forward(rows.input(&model, device)?);
    if !model.head().is_none() {
        return write(&args.output, vec![("logits", rows.scored(&model, logits))]);
    }
    let mut tensors = Vec::new();
    if let Some(modules) = args.embedder.modules(&files, adapter)? {
        let embeddings = rows.embedded(modules.embedder, logits.clone())?;
        tensors.push(("embeddings", embeddings));
    }
    tensors.push(("last_hidden_state", logits.into_data().convert::<f32>()));
    write(&args.output, tensors)
}

fn write(output: &Path, tensors: Vec<(&str, TensorData)>) -> Result<()> {
    for (name, values) in &tensors {
        let broken = values.iter::<f32>().filter(|value| !value.is_finite());
        let broken = broken.count();
        if broken > 0 {
            tracing::warn!(
                "{broken} of {} {name} are not finite: the model's weights, or the adapter's, are broken",
                values.num_elements()
            );
        }
    }
    let shapes = tensors.iter();
    let shapes = shapes.map(|(name, values)| format!("{name} {:?}", values.shape().to_vec()));
    let shapes = shapes.collect::<Vec<_>>().join(", ");
    let tensors = tensors.into_iter();
    let tensors = tensors.map(|(name, values)| (name.to_string(), values));
    write_tensors(output, tensors.collect())?;
    say(format!("{}: {shapes}", output.display()))
}

/// The logits if each row uses its own adapter.
fn by_rows(rows: &Rows, model: AutoModel, args: &Args, device: &Device) -> Result<TensorData> {
    let adapters = &args.model.adapter;
    let mut model = load_adapter(model, &adapters[0], false)?;
    // Names cannot contain slashes.
    let name = |index: usize| match index {
        0 => DEFAULT_ADAPTER.to_string(),
        index => format!("adapter-{index}"),
    };
    for (index, folder) in adapters.iter().enumerate().skip(1) {
        let loaded = model.load_adapter(folder, &name(index), false);
        loaded.context("cannot load the adapter")?;
    }
    let mut names = Vec::new();
    for given in &args.adapter_names {
        let adapter = adapters
            .iter()
            .position(|folder| folder == Path::new(given));
        names.push(match adapter {
            Some(index) => name(index),
            None if given == BASE_ROW => BASE_ROW.to_string(),
            None => bail!("--adapter-names has {given:?}, which no --adapter names"),
        });
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut model = LanguageModel::from(model);
    args.model.kept.keep(&mut model)?;
    let LanguageModel::Peft(model) = model else {
        bail!("--adapter-names needs --adapter");
    };
    let logits = forward_rows(&model, rows.input(&model, device)?, &names)?;
    Ok(rows.scored(&model, logits))
}
