//! `peft eval`: how well a model predicts a file.

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_peft::parameters::thousands;
use burn_peft_data::{DataConfig, Examples};
use burn_peft_models::CausalLm;
use burn_peft_train::{Evaluation, evaluate};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::loading::{Loaded, ModelsArgs, RowArgs, find_data, find_model, find_tokenizer};
use crate::output::{emit, say, say_json, table};

const EXAMPLE: &str = "\
Examples:
  peft eval --model gpt2 --adapter out --data reviews.jsonl
  peft eval --model gpt2 --adapter out-a --adapter out-b --data reviews.jsonl
  peft eval --model gpt2 --data 'reviews.jsonl[:500]' --max-length 512 --json

The file is read as `peft train` reads it: .jsonl, .json, .csv, .tsv or .txt, with an optional
slice of its rows.";

/// The command line of `peft eval`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    model: ModelsArgs,
    /// The file to predict
    #[arg(long, value_name = "FILE")]
    data: String,
    #[command(flatten)]
    rows: RowArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `peft eval`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    let tokenizer = find_tokenizer(&files, args.rows.tokenizer.as_deref())?;
    let models = Loaded::open_each(&files, &args.model, device)?;
    let config = DataConfig {
        max_length: args.rows.max_length,
        text_field: args.rows.text_field,
        ..DataConfig::new(&args.data)
    };
    // Of several the smallest, so that all predict the same tokens.
    let limits = models.iter().map(|(_, model)| model.limits());
    let limits = limits.min_by_key(|limits| limits.n_positions);
    let limits = limits.context("there is no model")?;
    let examples =
        Examples::load_with(&args.data, &config, tokenizer.as_ref(), limits, &find_data)?;
    let mut results = Vec::new();
    for (adapter, model) in &models {
        let result = match model {
            Loaded::Plain(model) => measure(model, &examples, args.rows.batch_size)?,
            Loaded::Adapted(model) => measure(model, &examples, args.rows.batch_size)?,
        };
        results.push((adapter, result));
    }
    if let [(_, result)] = &results[..] {
        return match args.json {
            true => {
                let mut object = json(result);
                object["examples"] = examples.len().into();
                say_json(&object)
            }
            false => say(describe(result)),
        };
    }
    if args.json {
        let each = results.iter().map(|(adapter, result)| {
            let mut object = json(result);
            object["adapter"] = adapter.as_str().into();
            object
        });
        let each: Vec<_> = each.collect();
        return say_json(&json!({ "adapters": each, "examples": examples.len() }));
    }
    let mut rows = vec![["adapter", "loss", "perplexity", "tokens"].map(String::from)];
    rows.extend(results.iter().map(|(adapter, result)| {
        [
            adapter.to_string(),
            format!("{:.4}", result.loss),
            format!("{:.2}", result.perplexity),
            thousands(result.tokens),
        ]
    }));
    emit(&table(&rows)).map(drop)
}

fn json(result: &Evaluation) -> Value {
    json!({
        "loss": result.loss,
        "perplexity": result.perplexity,
        "tokens": result.tokens,
    })
}

/// The loss over all examples, with a bar on standard error while it is computed.
pub fn measure(
    model: &impl CausalLm,
    examples: &Examples,
    batch_size: usize,
) -> Result<Evaluation> {
    let bar = ProgressBar::new(examples.len() as u64);
    let result = evaluate(model, examples, batch_size, |done, _| {
        bar.set_position(done as u64)
    });
    bar.finish_and_clear();
    Ok(result?)
}

/// `loss 3.2121  perplexity 24.83  (5,120 tokens)`.
pub fn describe(result: &Evaluation) -> String {
    format!(
        "loss {:.4}  perplexity {:.2}  ({} tokens)",
        result.loss,
        result.perplexity,
        thousands(result.tokens)
    )
}
