//! `peft forward`: logits for given token ids.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, TensorData};
use burn_peft::tensor_file::write_tensors;
use burn_peft_models::CausalLm;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::loading::{Loaded, ModelArgs, find_model, model_input};
use crate::output::say;

const EXAMPLE: &str = "\
Example:
  peft forward --model gpt2 --adapter out --input batch.safetensors --output logits.safetensors

The input holds input_ids [batch, seq] (I64 or I32) and, for padded rows, attention_mask
[batch, seq] (1 for a token, 0 for padding); other tensors in it are ignored. The output holds
logits [batch, seq, vocab] (F32).";

/// The command line of `peft forward`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Put the adapter into the weights first
    #[arg(long, requires = "adapter", conflicts_with = "disable")]
    merge: bool,
    /// Switch the adapter off
    #[arg(long, requires = "adapter")]
    disable: bool,
    /// The file with input_ids and attention_mask
    #[arg(long, value_name = "IN.safetensors")]
    input: PathBuf,
    /// The file that gets the logits
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,
}

/// Runs `peft forward`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let rows = Rows::read(&args.input)?;
    let files = find_model(&args.model.model)?;
    let mut model = Loaded::open(&files, args.model.adapter.as_deref(), device)?;
    if let Loaded::Adapted(model) = &mut model {
        if args.merge {
            model.merge_adapter(false)?;
        }
        if args.disable {
            model.disable_adapter_layers();
        }
    }
    let logits = match &model {
        Loaded::Plain(model) => rows.logits(model, device)?,
        Loaded::Adapted(model) => rows.logits(model, device)?,
    };
    let shape = logits.shape().to_vec();
    write_tensors(&args.output, vec![("logits".to_string(), logits)])?;
    say(format!("{}: logits {shape:?}", args.output.display()))
}

/// The rows to run.
struct Rows {
    file: PathBuf,
    input_ids: Vec<i64>,
    attention_mask: Option<Vec<i64>>,
    batch: usize,
    seq: usize,
}

impl Rows {
    fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {place}"))?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(|| {
            format!(
                "{place}: not a whole safetensors file ({} bytes)",
                bytes.len()
            )
        })?;
        let Ok(ids) = tensors.tensor("input_ids") else {
            bail!(
                "{place}: no tensor input_ids; it holds {:?}",
                tensors.names()
            );
        };
        let &[batch, seq] = ids.shape() else {
            bail!("{place}: input_ids is {:?}, not [batch, seq]", ids.shape());
        };
        ensure!(
            batch > 0 && seq > 0,
            "{place}: input_ids is empty: {:?}",
            ids.shape()
        );
        let integers = |name: &str, view: &TensorView<'_>| {
            integers(view).with_context(|| format!("{place}: {name}"))
        };
        let attention_mask = match tensors.tensor("attention_mask") {
            Ok(mask) => {
                ensure!(
                    mask.shape() == [batch, seq],
                    "{place}: attention_mask is {:?}, input_ids is [{batch}, {seq}]",
                    mask.shape()
                );
                let mask = integers("attention_mask", &mask)?;
                if let Some(value) = mask.iter().find(|&&value| value != 0 && value != 1) {
                    bail!("{place}: attention_mask holds {value}; it has to be 0 or 1");
                }
                Some(mask)
            }
            Err(_) => None,
        };
        Ok(Self {
            file: path.to_path_buf(),
            input_ids: integers("input_ids", &ids)?,
            attention_mask,
            batch,
            seq,
        })
    }

    /// The model's logits, `[batch, seq, vocab]`.
    fn logits(&self, model: &impl CausalLm, device: &Device) -> Result<TensorData> {
        let (place, n_positions) = (self.file.display(), model.max_positions());
        ensure!(
            self.seq <= n_positions,
            "{place}: input_ids has rows of {} tokens, more than the model's n_positions \
             {n_positions}",
            self.seq
        );
        let known = 0..model.vocab_size() as i64;
        if let Some(at) = self.input_ids.iter().position(|id| !known.contains(id)) {
            bail!(
                "{place}: input_ids[{}, {}] is {}, not from 0 to below the model's vocab_size {}",
                at / self.seq,
                at % self.seq,
                self.input_ids[at],
                known.end
            );
        }
        let shape = [self.batch, self.seq];
        let mask = self.attention_mask.clone();
        let input = model_input(self.input_ids.clone(), mask, shape, device);
        Ok(model.forward(input).into_data().convert::<f32>())
    }
}

fn integers(view: &TensorView<'_>) -> Result<Vec<i64>> {
    let bytes = view.data();
    Ok(match view.dtype() {
        Dtype::I64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&word| i64::from_le_bytes(word))
            .collect(),
        Dtype::I32 => {
            let words = bytes.as_chunks().0.iter();
            words.map(|&word| i32::from_le_bytes(word).into()).collect()
        }
        other => bail!("is {other:?}; supported are I64 and I32"),
    })
}
