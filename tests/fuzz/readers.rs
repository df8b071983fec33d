//! The readers under test: everything that reads a file which somebody else has written.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use burn_peft::PeftModel;
use burn_peft_data::{DataConfig, Examples, Limits, Tokenizer};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, AutoModel, CausalLm, ModelInput, Pretrained};
use burn_peft_train::{CheckpointInfo, TrainConfig, TrainOptions, train};

use crate::corpus::{self, Case};

type Answer = Result<(), String>;

/// What readers need besides the file.
pub struct Given {
    base: AutoModel,
    tiny: AutoModel,
    tokenizer: Tokenizer,
}

impl Given {
    /// Makes the models and the tokenizer, with files in the folder `scratch`.
    pub fn new(scratch: &Path) -> Self {
        let device = corpus::device();
        let files = ModelFiles::folder(corpus::project("tests/fixtures/conformance/base-gpt2"));
        let folder = scratch.join("tokenizer");
        write(&folder, &corpus::tokenizers(scratch)[0]);
        let tiny = ModelFiles::folder(scratch.join("whole"));
        corpus::models(scratch);
        Self {
            base: AutoModel::from_files(&files, &device).expect("the project's model"),
            tiny: AutoModel::from_files(&tiny, &device).expect("a model"),
            tokenizer: Tokenizer::load(&folder).expect("a tokenizer"),
        }
    }
}

/// A kind of file.
pub struct Reader {
    /// Its name.
    pub name: &'static str,
    /// Its share of the inputs.
    pub share: usize,
    /// The files to damage.
    pub cases: Vec<Case>,
    /// Reads a folder.
    pub read: fn(&Given, &Path) -> Answer,
    /// The memory that even the smallest file may use, in bytes; `docs/fuzzing.md` gives the
    /// reasons.
    pub granted: usize,
}

/// All readers.
pub fn readers(scratch: &Path) -> Vec<Reader> {
    let reader = |name, share, cases, read| Reader {
        name,
        share,
        cases,
        read,
        granted: 1 << 20,
    };
    vec![
        Reader {
            granted: 4 << 20,
            ..reader("adapter", 6, corpus::adapters(), adapter)
        },
        reader("config", 2, corpus::configs(), config),
        reader("model", 4, corpus::models(scratch), model),
        Reader {
            granted: 4 << 20,
            ..reader("gguf", 4, corpus::gguf(), gguf)
        },
        reader("tokenizer", 3, corpus::tokenizers(scratch), tokenizer),
        Reader {
            granted: 128 << 20,
            ..reader("template", 3, corpus::templates(), template)
        },
        reader("rows", 6, corpus::rows(), rows),
        reader("parquet", 4, corpus::parquet(), rows),
        Reader {
            granted: 128 << 20,
            ..reader("training-file", 5, corpus::training_files(), training_file)
        },
        reader("checkpoint", 1, corpus::checkpoints(scratch), checkpoint),
    ]
}

/// Writes a case as a folder.
pub fn write(folder: &Path, case: &Case) {
    fs::create_dir_all(folder).expect("a folder for the input");
    for (name, bytes) in case {
        fs::write(folder.join(name), bytes).expect("a file of the input");
    }
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

fn adapter(given: &Given, folder: &Path) -> Answer {
    let loaded = PeftModel::from_pretrained(given.base.clone(), folder, false);
    let mut model = loaded.map_err(said)?;
    // The same folder again, as a second adapter.
    model.load_adapter(folder, "other", true).map_err(said)
}

fn config(_: &Given, folder: &Path) -> Answer {
    let file = folder.join("config.json");
    let config = AutoConfig::from_file(&file).map_err(said)?;
    fs::write(&file, config.to_json()).map_err(said)?;
    let again = AutoConfig::from_file(&file).map_err(said)?;
    again.num_parameters();
    again.common().eos_token_ids();
    Ok(())
}

fn model(_: &Given, folder: &Path) -> Answer {
    let (files, device) = (ModelFiles::folder(folder), corpus::device());
    let lazily = AutoModel::from_files_lazily(&files, &device, None).map(drop);
    let at_once = AutoModel::from_files(&files, &device).map(drop);
    assert_eq!(lazily.is_ok(), at_once.is_ok(), "{lazily:?}, {at_once:?}");
    at_once.map_err(said)
}

fn gguf(given: &Given, folder: &Path) -> Answer {
    let files = ModelFiles::gguf(folder.join("model.gguf")).map_err(said)?;
    let device = corpus::device();
    let loaded = AutoModel::from_files(&files, &device);
    let in_blocks = AutoModel::from_files_in_blocks(&files, &device);
    assert_eq!(
        in_blocks.is_ok(),
        loaded.is_ok(),
        "{in_blocks:?}, {loaded:?}"
    );
    if let Ok(model) = in_blocks {
        let ids = TensorData::from([[0, 1, 1, 0]]);
        let ids = Tensor::<2, Int>::from_data(ids, &device);
        // The numbers do not matter: the blocks may hold anything.
        model.forward(ModelInput::new(ids)).into_data();
    }
    if files.path().join("tokenizer.json").is_file() {
        tokenizer(given, files.path())?;
    }
    loaded.map(drop).map_err(said)
}

fn tokenizer(_: &Given, folder: &Path) -> Answer {
    let tokenizer = Tokenizer::load(folder).map_err(said)?;
    for text in ["the cat sat", "<|endoftext|>é日🦀\n\n  x", ""] {
        let ids = tokenizer.encode(text).map_err(said)?;
        tokenizer.encode_continuation(text).map_err(said)?;
        tokenizer.decode(&ids).map_err(said)?;
    }
    tokenizer.decode(&[0, 279, 280, u32::MAX]).map_err(said)?;
    tokenizer.save(folder.join("saved.json")).map_err(said)
}

fn limits() -> Limits {
    Limits {
        max_positions: 64,
        positions_key: "n_positions",
        vocab_size: 300,
        has_last_position: true,
        adapter_positions: 0,
    }
}

fn examples(folder: &Path, tokenizer: &Tokenizer) -> Answer {
    let names = ["jsonl", "json", "csv", "tsv", "txt", "parquet"]
        .map(|end| folder.join(format!("rows.{end}")));
    let path = names.iter().find(|path| path.exists()).ok_or("no rows")?;
    let path = path.display().to_string();
    let config = DataConfig {
        cache_dir: Some(folder.join("cache")),
        max_length: Some(32),
        ..DataConfig::new(&path)
    };
    let examples = Examples::load(&path, &config, Some(tokenizer), limits()).map_err(said)?;
    for example in examples.iter() {
        tokenizer.decode(&example.input_ids).map_err(said)?;
    }
    Ok(())
}

fn rows(given: &Given, folder: &Path) -> Answer {
    examples(folder, &given.tokenizer)
}

fn template(_: &Given, folder: &Path) -> Answer {
    let tokenizer = folder.parent().unwrap_or(folder).join("tokenizer");
    for name in ["tokenizer.json", "special_tokens_map.json"] {
        fs::copy(tokenizer.join(name), folder.join(name)).map_err(said)?;
    }
    let tokenizer = Tokenizer::load(folder).map_err(said)?;
    examples(folder, &tokenizer)
}

fn training_file(given: &Given, folder: &Path) -> Answer {
    let config =
        TrainConfig::from_file(&folder.join("train.toml"), &[] as &[&str]).map_err(said)?;
    config.to_toml().map_err(said)?;
    if config.is_full_training() || config.adapter.is_some() {
        return Ok(());
    }
    let method = config.method("train.toml").map_err(said)?;
    let model = PeftModel::new(given.tiny.clone(), "default", Arc::clone(&method));
    model
        .map_err(said)?
        .save_pretrained(folder.join("out"))
        .map_err(said)
}

/// Resumes from it for the second step.
fn checkpoint(given: &Given, folder: &Path) -> Answer {
    CheckpointInfo::find(folder).map_err(said)?;
    let options = TrainOptions {
        resume: Some(folder.to_path_buf()),
        ..TrainOptions::default()
    };
    let model = corpus::trainee(given.tiny.clone());
    let arguments = corpus::arguments(Path::new("run"));
    let outcome = train(model, corpus::examples(), None, &arguments, options);
    let _ = fs::remove_dir_all("run");
    outcome.map(drop).map_err(said)
}
