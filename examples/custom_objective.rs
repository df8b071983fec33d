//! An objective of your own, outside the library: a loss over pairs of answers. Rows, batches, resuming,
//! accumulation, checkpointing, methods and quantised bases come for free.
//!
//! The toy objective wants the mean log probability per token to be higher for the better answer
//! than for the worse one, by a margin:
//! `max(0, margin - (mean log p(chosen) - mean log p(rejected)))`.
//!
//! ```text
//! cargo run --release --example custom_objective
//! ```
//!
//! `docs/adding-an-objective.md` shows an objective with its own rows and batches.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_data::{Batch, DataConfig, DataSet, Pairs, Tokenizer};
use burn_peft_models::{AutoModel, LanguageModel, Pretrained, TokenLogProbs};
use burn_peft_train::{
    Comparison, Measures, Metric, Others, Preference, PreferenceLoss, TrainOptions,
    TrainingArguments, evaluate_with, limits, train_with,
};

/// The configuration.
#[derive(Debug)]
struct Margin {
    margin: f64,
}

/// What is measured in steps and evaluations. Each of these can decide which checkpoint is best.
static MEASURES: Measures = Measures {
    unit: "pair",
    sums: &["Margin", "Accuracy"],
    metrics: &[
        Metric::loss("loss (per pair)"),
        Metric::mean("margin", "margin, nats by token", true, |sums| {
            sums.mean(sums.sums[0])
        }),
        Metric::mean("accuracy", "pairs in order", true, |sums| {
            sums.mean(sums.sums[1])
        }),
    ],
};

impl Comparison for Margin {
    /// Rows of `chosen` and `rejected`, two texts each.
    type Task = Pairs;

    fn task(&self) -> Pairs {
        Pairs::default()
    }

    fn measures(&self) -> &'static Measures {
        &MEASURES
    }

    fn disables_dropout(&self) -> bool {
        false
    }

    fn loss(&self, _batch: &Batch, policy: &TokenLogProbs, others: Others<'_>) -> PreferenceLoss {
        // The answers' tokens are concatenated: chosen, rejected, chosen, ….
        let mut start = 0;
        let means = others.lengths.iter().map(|&length| {
            let tokens = policy.log_probs.clone().slice_dim(0, start..start + length);
            start += length;
            tokens.mean()
        });
        let means: Vec<Tensor<1>> = means.collect();
        let margins = means
            .chunks(2)
            .map(|pair| pair[0].clone() - pair[1].clone());
        let margins = Tensor::cat(margins.collect(), 0);
        let known = margins.clone().inner();
        let right = known.clone().greater_elem(0.0).float();
        PreferenceLoss {
            loss: relu(margins.neg() + self.margin).sum(),
            sums: Tensor::cat(vec![known.sum(), right.sum()], 0),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join("burn-peft-custom-objective");
    std::fs::create_dir_all(&dir)?;
    let rows = dir.join("pairs.jsonl");
    let row = |name: &str| {
        format!(
            "{{\"prompt\": \"{name} went to the\", \"chosen\": \" moon again.\", \"rejected\": \" river.\"}}\n"
        )
    };
    std::fs::write(&rows, ["Tom", "Ruby", "Ben", "Anna"].map(row).concat())?;

    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/tiny-gpt2");
    let device = Device::flex();
    let tokenizer = Tokenizer::load(assets)?;
    let base = AutoModel::from_pretrained(assets, &device)?;
    let model = LanguageModel::from(get_peft_model(base, LoraConfig::new().with_r(4))?);

    let mut config = DataConfig::new(rows.display().to_string());
    config.cache_dir = Some(dir.join("cache"));
    let objective = Preference::<_, LanguageModel>::new(Margin { margin: 3.0 }, None);
    let data = DataSet::load_with(
        &config,
        Some(&tokenizer),
        limits(&model),
        42,
        &|_| Ok(None),
        &objective,
    )?;
    println!(
        "{} pairs, {} texts",
        data.train.sequences(),
        data.train.len()
    );

    let before = evaluate_with(&objective, &model, &data.train, 4, |_, _| ())?;
    println!("before: {before}");
    let arguments = TrainingArguments {
        max_steps: 20,
        per_device_train_batch_size: 2,
        learning_rate: 5e-3,
        ..TrainingArguments::new(dir.join("out"))
    };
    let objective = Arc::new(objective);
    let options = TrainOptions::default();
    let outcome = train_with(
        objective.clone(),
        model,
        data.train.clone(),
        None,
        &arguments,
        options,
    )?;
    let after = evaluate_with(&*objective, &outcome.model, &data.train, 4, |_, _| ())?;
    println!("after:  {after}");
    println!("learnt: {}", after.get("margin") > before.get("margin"));
    Ok(())
}
