//! Trains every method on the task of the quick start, with the same data, steps and seed, each in
//! a process of its own, and measures its costs and its result. Writes methods.md, methods.svg and
//! the adapters.
//!
//! ```text
//! cargo run --release --example compare_methods                       # about 5 minutes on 2 cores
//! cargo run --release --example compare_methods -- --methods LoRA,DoRA --scales 0.3,1,3
//! ```
//!
//! Each method is a few `--set` options for `peft train configs/quickstart.toml`, listed in
//! `compare_methods/methods.rs`.

#[path = "compare_methods/chart.rs"]
mod chart;
#[path = "compare_methods/methods.rs"]
mod methods;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use burn_peft::files::WEIGHTS_NAME;
use burn_peft::methods::peft_types;
use burn_peft::parameters::{count, thousands};
use burn_peft::{DEFAULT_ADAPTER, PeftModel, set_seed};
use burn_peft_data::{DataSet, Examples, Tokenizer};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, Pretrained};
use burn_peft_train::{TrainConfig, TrainOptions, evaluate, limits, peak_memory_bytes, train};
use clap::Parser;
use serde_json::{Value, json};

use crate::chart::Point;
use crate::methods::{METHODS, Method};

const QUICKSTART: &str = "configs/quickstart.toml";

/// Trains with every method on the quick start's task and compares them.
#[derive(Parser)]
struct Args {
    /// Optimizer steps of each method
    #[arg(long, default_value_t = 60)]
    steps: usize,
    /// Only these, by the names of the table
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Run each method once with each of these multiples of its learning rate
    #[arg(long, value_delimiter = ',', default_value = "1")]
    scales: Vec<f64>,
    /// The folder for the table, the chart and the adapters
    #[arg(long, default_value = "runs/compare")]
    output: PathBuf,
    /// Run the one method here, and print what was measured as JSON
    #[arg(long, hide = true)]
    child: bool,
}

impl Args {
    /// The methods asked for.
    fn chosen(&self) -> Result<Vec<&'static Method>> {
        let known = || METHODS.iter().map(|method| method.name);
        if let Some(name) = self
            .methods
            .iter()
            .find(|name| !known().any(|k| k == *name))
        {
            bail!(
                "--methods {name}: not known, these are: {}",
                known().collect::<Vec<_>>().join(",")
            );
        }
        let is_chosen = |name| self.methods.is_empty() || self.methods.iter().any(|m| m == name);
        Ok(METHODS
            .iter()
            .filter(|method| is_chosen(method.name))
            .collect())
    }
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    args.output = std::path::absolute(&args.output)?;
    // The quick start's paths are relative to the repository.
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?;
    let methods = args.chosen()?;
    if let (true, [method], [scale]) = (args.child, &methods[..], &args.scales[..]) {
        let config = method.config(args.steps, *scale, &args.output)?;
        println!("{}", measure(&config)?);
        return Ok(());
    }
    every_type_is_compared()?;
    compare(&args, &methods)
}

/// Checks that every registered method has a row.
fn every_type_is_compared() -> Result<()> {
    for peft_type in peft_types() {
        let has = |method: &Method| method.peft_type() == peft_type;
        ensure!(
            METHODS.iter().any(has),
            "no row of methods.rs is of peft_type {peft_type}"
        );
    }
    Ok(())
}

/// Measures each method in a process of its own, since peak memory and random numbers belong to a
/// process.
fn compare(args: &Args, methods: &[&Method]) -> Result<()> {
    let before = METHODS[0].config(args.steps, 1.0, &args.output)?;
    let base = AutoModel::from_pretrained(&before.model, &Device::flex())?;
    let before = loss(&base, &data(&base, &before)?.1, &before)?;
    println!(
        "{} steps; evaluation loss without training: {before:.4}\n",
        args.steps
    );

    let titles = [
        "method",
        "trainable",
        "file",
        "eval loss",
        "steps/s",
        "peak memory",
        "merges",
        "learning rate",
    ];
    let mut table = format!(
        "| {} |\n| --- |{}\n",
        titles.join(" | "),
        " ---: |".repeat(7)
    );
    print!("{table}");
    let mut points = Vec::new();
    for method in methods {
        for scale in &args.scales {
            let output = args.output.join(format!("{}-{scale}", method.slug()));
            let found = in_child(method, *scale, args.steps, &output)
                .with_context(|| format!("{} at {scale} of its learning rate", method.name))?;
            let line = row(method.name, &found)?;
            print!("{line}");
            table.push_str(&line);
            points.push(Point {
                name: method.name,
                x: number(&found, "trainable")?,
                y: number(&found, "loss")?,
                merges: found["merges"] != json!(false),
            });
        }
    }
    fs::write(args.output.join("methods.md"), table)?;
    fs::write(args.output.join("methods.svg"), chart::svg(&points))?;
    println!(
        "\nwritten: methods.md, methods.svg in {}",
        args.output.display()
    );
    Ok(())
}

/// Runs this program again for one method.
fn in_child(method: &Method, scale: f64, steps: usize, output: &Path) -> Result<Value> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--child", "--methods", method.name]);
    command.args([
        "--scales",
        &scale.to_string(),
        "--steps",
        &steps.to_string(),
    ]);
    command.arg("--output").arg(output).stderr(Stdio::inherit());
    let ended = command.output()?;
    ensure!(
        ended.status.success(),
        "its process ended with {}",
        ended.status
    );
    Ok(serde_json::from_slice(&ended.stdout)?)
}

/// Trains as a configuration says, in this process.
fn measure(config: &TrainConfig) -> Result<Value> {
    let device = Device::flex();
    let base = AutoModel::from_pretrained(&config.model, &device)?;
    if config.is_full_training() {
        let (_, _, found) = trained(base.into(), config, "model.safetensors")?;
        return Ok(found);
    }
    set_seed(config.training.seed, &device);
    let model = PeftModel::new(base, DEFAULT_ADAPTER, config.method(QUICKSTART)?)?;
    let (model, validation, mut found) = trained(model.into(), config, WEIGHTS_NAME)?;
    let LanguageModel::Peft(model) = model else {
        bail!("training took the adapter away");
    };
    found["merges"] = match model.merge_and_unload(true) {
        Err(_) => json!(false),
        Ok(merged) => {
            let (merged, adapted) = (loss(&merged, &validation, config)?, number(&found, "loss")?);
            ensure!(
                (merged - adapted).abs() < 1e-3,
                "merging changed the loss {adapted} to {merged}"
            );
            json!(true)
        }
    };
    Ok(found)
}

/// The trained model, what it was evaluated on, and what was measured; `file` is what it saves.
fn trained(
    model: LanguageModel,
    config: &TrainConfig,
    file: &str,
) -> Result<(LanguageModel, Examples, Value)> {
    let (trainable, _) = count(&model.named_parameters());
    let (examples, validation) = data(&model, config)?;
    let arguments = &config.training;
    let outcome = train(model, examples, None, arguments, TrainOptions::default())?;
    let loss = loss(&outcome.model, &validation, config)?;
    let found = json!({
        "trainable": trainable,
        "bytes": fs::metadata(arguments.output_dir.join(file))?.len(),
        "loss": loss,
        "steps_per_second": outcome.steps as f64 / outcome.train_runtime,
        "peak_memory": peak_memory_bytes(&Device::flex()),
        "merges": null,
        "learning_rate": arguments.learning_rate,
    });
    Ok((outcome.model, validation, found))
}

/// The training set and the evaluation set.
fn data(model: &impl CausalLm, config: &TrainConfig) -> Result<(Examples, Examples)> {
    let tokenizer = Tokenizer::load(&config.model)?;
    let data = DataSet::load(
        &config.data,
        Some(&tokenizer),
        limits(model),
        config.training.seed,
    )?;
    Ok((
        data.train,
        data.validation
            .context("the quick start has validation data")?,
    ))
}

fn loss(model: &impl CausalLm, examples: &Examples, config: &TrainConfig) -> Result<f64> {
    let batch_size = config.training.per_device_eval_batch_size;
    Ok(evaluate(model, examples, batch_size, |_, _| ())?.loss())
}

fn number(found: &Value, key: &str) -> Result<f64> {
    found[key]
        .as_f64()
        .with_context(|| format!("{key} is {}", found[key]))
}

/// A line of the table.
fn row(name: &str, found: &Value) -> Result<String> {
    let get = |key| number(found, key);
    let memory = found["peak_memory"].as_f64();
    let memory = memory.map_or("?".to_string(), |bytes| format!("{:.0} MB", bytes / 1e6));
    let merges = match &found["merges"] {
        Value::Bool(true) => "yes",
        Value::Bool(false) => "no",
        _ => "–",
    };
    let cells = [
        name.to_string(),
        thousands(get("trainable")? as usize),
        format!("{:.1} kB", get("bytes")? / 1e3),
        format!("{:.3}", get("loss")?),
        format!("{:.1}", get("steps_per_second")?),
        memory,
        merges.to_string(),
        format!("{:.1e}", get("learning_rate")?),
    ];
    Ok(format!("| {} |\n", cells.join(" | ")))
}
