//! Burn's data sets in the place of files, and files as Burn's data sets.
//!
//! A run trains on the items of a `Dataset`: here of a table that is asked row by row, as a database
//! would be, and what Burn's own transforms make of it. It resumes bit for bit, as on a file. And what
//! was tokenised is a `Dataset` too, for Burn's transforms, `DataLoaderBuilder` and `Learner`.
//!
//! ```text
//! cargo run --release --example burn_dataset
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataset::transform::{Mapper, MapperDataset, PartialDataset};
use burn::data::dataset::{Dataset, DatasetError};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Device;
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_data::{DataConfig, Examples, Limits, Lm, Tokenizer};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, LmBatch, Pretrained};
use burn_peft_train::{ExampleDataset, TrainOptions, TrainingArguments, examples_of, train};
use serde::Serialize;

/// A table of people. `get` is where `SELECT name, place FROM people WHERE id = ?` would stand: any
/// store that finds a row by its number is a data set.
struct People;

/// A row of the table.
struct Person {
    name: &'static str,
    place: &'static str,
}

impl Dataset<Person> for People {
    fn get(&self, index: usize) -> Result<Person, DatasetError> {
        assert!(index < self.len(), "there is no person {index}");
        let names = ["Tom", "Ruby", "Ben", "Anna", "Max"];
        let places = ["river", "forest", "garden", "market"];
        Ok(Person {
            name: names[index % names.len()],
            place: places[index % places.len()],
        })
    }

    fn len(&self) -> usize {
        20
    }
}

/// What training sees of a row: the columns that a row of a file would have.
#[derive(Serialize)]
struct Row {
    prompt: String,
    completion: String,
}

/// One of Burn's transforms.
struct AsRow;

impl Mapper<Person, Row> for AsRow {
    fn map(&self, person: &Person) -> Row {
        Row {
            prompt: format!("{} went to the", person.name),
            completion: format!(" {}, arr!", person.place),
        }
    }
}

/// The table's examples, asked for anew.
fn examples(
    model: &AutoModel,
    tokenizer: &Tokenizer,
    cache: &Path,
) -> Result<Examples, Box<dyn Error>> {
    let limits = Limits {
        max_positions: model.max_positions(),
        positions_key: model.positions_key(),
        has_last_position: model.has_last_position(),
        adapter_positions: 0,
        vocab_size: model.vocab_size(),
    };
    let mut config = DataConfig::new("people");
    config.cache_dir = Some(cache.to_path_buf());
    let rows = MapperDataset::new(People, AsRow);
    Ok(examples_of(
        "people",
        &rows,
        &config,
        Some(tokenizer),
        limits,
        &Lm,
    )?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("burn-peft-dataset-{}", std::process::id()));
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/tiny-gpt2");
    let device = Device::flex();
    let tokenizer = Tokenizer::load(assets)?;
    let base = AutoModel::from_pretrained(assets, &device)?;
    let adapted = || -> burn_peft::Result<LanguageModel> {
        device.seed(42);
        let config = LoraConfig::new().with_r(4);
        Ok(get_peft_model(base.clone(), config)?.into())
    };
    let data = examples(&base, &tokenizer, &dir.join("cache"))?;
    println!(
        "{} examples of {}, {} tokens",
        data.len(),
        data.file,
        data.tokens()
    );

    // A run on the data set, and the same from the middle on.
    let arguments = |folder: &str| TrainingArguments {
        max_steps: 6,
        save_steps: 3,
        per_device_train_batch_size: 4,
        learning_rate: 5e-3,
        ..TrainingArguments::new(dir.join(folder))
    };
    let options = TrainOptions::default();
    let whole = train(adapted()?, data, None, &arguments("whole"), options)?;
    println!("6 steps: loss {:.3}", whole.train_loss);
    let data = examples(&base, &tokenizer, &dir.join("cache"))?;
    let options = TrainOptions {
        resume: Some(dir.join("whole/checkpoint-3")),
        ..TrainOptions::default()
    };
    train(
        adapted()?,
        data.clone(),
        None,
        &arguments("resumed"),
        options,
    )?;
    let weights = |folder: &str| fs::read(dir.join(folder).join("adapter_model.safetensors"));
    println!(
        "resumed bit for bit: {}",
        weights("whole")? == weights("resumed")?
    );

    // The examples as a data set of Burn's: three quarters of them, in Burn's loader.
    let dataset = ExampleDataset::from(data);
    let batcher = dataset.batcher();
    let part = PartialDataset::new(dataset, 0, 15);
    let loader = DataLoaderBuilder::<_, LmBatch>::new(batcher)
        .batch_size(5)
        .shuffle(1)
        .set_device(device.clone().autodiff())
        .build(part);
    let mut model = adapted()?.train();
    let mut optimizer = AdamWConfig::new().init();
    for epoch in 1..=3 {
        let mut losses = Vec::new();
        for batch in loader.iter() {
            let batch = batch?;
            // The sum over the tokens to learn, and their number.
            let loss = model.loss(&batch) / batch.count as f32;
            losses.push(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(5e-3, model, gradients);
        }
        let mean = losses.iter().sum::<f32>() / losses.len() as f32;
        println!("Burn's loader, epoch {epoch}: loss {mean:.3}");
    }
    fs::remove_dir_all(dir)?;
    Ok(())
}
