//! Burn's data sets in place of files, and files as Burn's data sets.
//!
//! A run trains on the items of a `Dataset`: here a table that stays in its file and is queried row
//! by row, as a database would be, after one of Burn's own transforms. It resumes bit for bit, as
//! with a file of rows. The tokenised examples are a `Dataset` too, for Burn's transforms,
//! `DataLoaderBuilder` and `Learner`.
//!
//! ```text
//! cargo run --release --example burn_dataset
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataset::Dataset;
use burn::data::dataset::transform::{Mapper, MapperDataset, PartialDataset};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Device;
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_data::{DataConfig, Examples, Lm, Tokenizer};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, LmBatch, Pretrained};
use burn_peft_train::{
    ExampleDataset, TrainOptions, TrainingArguments, examples_of, limits, train,
};
use serde::Serialize;

/// A table of people in a file, one per line, which are not kept in memory. Any store that finds a
/// row by its number can be a data set; with a database, this would be
/// `SELECT name, place FROM people WHERE id = ?`.
struct People {
    file: Mutex<File>,
    /// Where each row begins.
    starts: Vec<u64>,
}

/// A row of the table.
struct Person {
    name: String,
    place: String,
}

impl People {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut starts = vec![0];
        while file.skip_until(b'\n')? > 0 {
            starts.push(file.stream_position()?);
        }
        // No row begins after the last one.
        starts.pop();
        Ok(Self {
            file: Mutex::new(file.into_inner()),
            starts,
        })
    }
}

/// The errors are the store's.
impl Dataset<Person, io::Error> for People {
    fn get(&self, index: usize) -> io::Result<Person> {
        let mut file = self.file.lock().expect("no thread has panicked");
        file.seek(SeekFrom::Start(self.starts[index]))?;
        let mut line = String::new();
        BufReader::new(&mut *file).read_line(&mut line)?;
        let columns = line.trim_end().split_once(',');
        let (name, place) = columns.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Person {
            name: name.into(),
            place: place.into(),
        })
    }

    fn len(&self) -> usize {
        self.starts.len()
    }
}

/// Writes the table.
fn write_people(path: &Path) -> io::Result<()> {
    let names = ["Tom", "Ruby", "Ben", "Anna", "Max"];
    let places = ["river", "forest", "garden", "market"];
    let row = |index: usize| format!("{},{}\n", names[index % 5], places[index % 4]);
    fs::write(path, (0..20).map(row).collect::<String>())
}

/// What training uses of a row: the columns that a row of a file would have.
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

/// The examples of the table in a folder, read again.
fn examples(
    model: &AutoModel,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<Examples, Box<dyn Error>> {
    let mut config = DataConfig::new("people");
    config.cache_dir = Some(folder.join("cache"));
    let rows = MapperDataset::new(People::open(&folder.join("people.csv"))?, AsRow);
    Ok(examples_of(
        "people",
        &rows,
        &config,
        Some(tokenizer),
        limits(model),
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
    fs::create_dir_all(&dir)?;
    write_people(&dir.join("people.csv"))?;
    let data = examples(&base, &tokenizer, &dir)?;
    println!(
        "{} examples of {}, {} tokens",
        data.len(),
        data.file,
        data.tokens()
    );

    // A run on the data set, and the same run resumed from the middle.
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
    let data = examples(&base, &tokenizer, &dir)?;
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

    // The examples as one of Burn's data sets: three quarters of them, in Burn's loader.
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
            // The sum over the learnt tokens, divided by their number.
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
