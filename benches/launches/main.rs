//! What a step of training asks of a GPU: launches by kind, compilations, copies, memory.
//! `benches/launches/run` builds it and runs it on Mesa's software device.
//!
//! A GPT-2 and a Llama with random weights learn four rows with LoRA on all linear layers, the same
//! rows in every step. An argument that names one of the models leaves out the other. After three
//! steps all kernels are compiled and chosen. The fourth step is counted twice: as a whole, and
//! with a wait for the device after each part. It is counted once more with frozen weights in f16.

mod expected;
mod marks;
mod table;
mod transfers;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::{Device, FloatDType};
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_data::{DataConfig, DataSet, Tokenizer};
use burn_peft_models::weights::{SaveOptions, save_model};
use burn_peft_models::{AutoConfig, AutoModel, LanguageModel, Pretrained};
use burn_peft_train::{
    IntervalStrategy, SamplingStrategy, TrainOptions, TrainingArguments, limits, train_with,
};

use crate::expected::Numbers;
use crate::marks::{Alone, Marked, Marks, Part, Step};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const MODELS: [(&str, &str); 2] = [
    ("gpt2", include_str!("gpt2.json")),
    ("llama", include_str!("llama.json")),
];
/// Steps in which kernels are compiled and chosen.
const WARM_UP: usize = 3;
/// Rows of a batch.
const ROWS: usize = 4;

fn main() -> Result<ExitCode> {
    transfers::watch();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (flags, wanted): (Vec<_>, Vec<_>) = arguments.iter().partition(|a| a.starts_with("--"));
    let updates = flags.iter().any(|flag| *flag == "--update");
    let device = burn_peft_device::open("wgpu:cpu".parse()?)?;
    let mut numbers = Numbers::new();
    for (name, config) in MODELS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| *wanted == name) {
            continue;
        }
        let f32 = FloatDType::F32;
        let [small, whole] = [2, 4].map(|blocks| step(config, blocks, f32, false, &device));
        let (small, whole) = (small?, whole?);
        let apart = step(config, 4, f32, true, &device)?;
        let half = step(config, 4, FloatDType::F16, false, &device)?;
        let of_blocks = whole.whole().launches.total() - small.whole().launches.total();
        println!(
            "{}",
            table::of(name, &whole, &apart, &half, of_blocks as f64 / 2.0)
        );
        let part = |part: Part| apart.parts[part as usize].launches.total();
        let found = [
            ("launches", whole.whole().launches.total()),
            ("launches_in_f16", half.whole().launches.total()),
            ("launches_of_two_blocks", of_blocks),
            ("forward", part(Part::Forward)),
            ("backward", part(Part::Backward)),
            ("optimizer", part(Part::Optimizer)),
            ("compiled", whole.whole().transfers.pipelines),
            ("read_back", whole.whole().transfers.reads),
        ];
        let found = found.map(|(name, number)| (name.to_owned(), number));
        numbers.insert(name.to_owned(), BTreeMap::from(found));
    }
    let path = Path::new(ROOT).join("benches/launches/expected.toml");
    if updates {
        expected::write(&path, &numbers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let differences = expected::differences(&path, &numbers)?;
    for difference in &differences {
        eprintln!("{difference}");
    }
    if differences.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("if this is on purpose: benches/launches/run --update");
    Ok(ExitCode::FAILURE)
}

/// The step after the warm-up, of a model with this many blocks and with frozen weights in this type.
fn step(
    config: &str,
    blocks: usize,
    dtype: FloatDType,
    apart: bool,
    device: &Device,
) -> Result<Step> {
    let dir = tempfile::tempdir()?;
    let base = model(config, blocks, dir.path(), device)?;
    let tokenizer = Tokenizer::load(format!("{ROOT}/assets/tiny-gpt2"))?;
    let lora = LoraConfig::new()
        .with_r(8)
        .with_lora_alpha(16)
        .with_lora_dropout(0.05)
        .with_target_modules("all-linear");
    let mut model = LanguageModel::from(get_peft_model(base, lora)?);
    if dtype != FloatDType::F32 {
        model.cast_frozen(dtype);
    }
    // The same four rows in every step, repeated so that no epoch ends.
    let rows = std::fs::read_to_string(format!("{ROOT}/data/quickstart/train.jsonl"))?;
    let rows: Vec<&str> = rows.lines().take(ROWS).collect();
    let file = dir.path().join("rows.jsonl");
    std::fs::write(&file, format!("{}\n", rows.join("\n")).repeat(WARM_UP + 3))?;
    let mut data = DataConfig::new(file.display().to_string());
    data.cache_dir = Some(dir.path().join("cache"));
    let data = DataSet::load(&data, Some(&tokenizer), limits(&model), 42)?;
    let arguments = TrainingArguments {
        max_steps: WARM_UP as i64 + 2,
        per_device_train_batch_size: ROWS,
        learning_rate: 1e-3,
        // Other seeds of dropout than before, so that no launch with them is known already.
        seed: 42 + 2 * blocks as u64 + u64::from(apart) + 100 * u64::from(dtype == FloatDType::F16),
        save_strategy: IntervalStrategy::No,
        train_sampling_strategy: SamplingStrategy::Sequential,
        ..TrainingArguments::new(dir.path().join("run"))
    };
    let marks = Marks::new(device, apart, usize::MAX);
    let options = TrainOptions {
        discard: true,
        exchange: Arc::new(Alone(Arc::clone(&marks))),
        ..TrainOptions::default()
    };
    let objective = Arc::new(Marked(Arc::clone(&marks)));
    train_with(objective, model, data.train, None, &arguments, options)?;
    let mut steps = marks.finish().into_iter();
    // Not the last step, which is logged.
    steps.nth(WARM_UP).context("too few steps were made")
}

/// A model with random weights.
fn model(config: &str, blocks: usize, dir: &Path, device: &Device) -> Result<AutoModel> {
    let mut config: BTreeMap<String, serde_json::Value> = serde_json::from_str(config)?;
    for key in ["n_layer", "num_hidden_layers"] {
        config.entry(key.into()).and_modify(|n| *n = blocks.into());
    }
    let path = dir.join("config.json");
    std::fs::write(&path, serde_json::to_string(&config)?)?;
    let config = AutoConfig::from_file(&path)?;
    let folder = dir.join("model");
    let weights = config.initial_weights(42);
    save_model(&folder, &config.to_json(), weights, &SaveOptions::default())?;
    Ok(AutoModel::from_pretrained(
        &folder.display().to_string(),
        device,
    )?)
}
