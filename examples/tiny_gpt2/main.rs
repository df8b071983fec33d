//! Generates the small GPT-2 that this repository ships in `assets/tiny-gpt2`, and the data set on
//! which `configs/quickstart.toml` fine-tunes it. Every word comes from the word lists and
//! templates in this folder; the same seed gives the same bytes.
//!
//! ```text
//! # The corpus, the tokenizer, the model's config.json, and the fine-tuning set.
//! cargo run --release --example tiny_gpt2 -- --output target/tiny-gpt2 --quickstart data/quickstart
//! # Random weights, then the training of all of them: half an hour on two cores.
//! cargo run --release -- init target/tiny-gpt2/config.json --output target/tiny-gpt2/init --seed 0
//! cargo run --release -- train configs/tiny-gpt2.toml
//! ```
//!
//! `assets/tiny-gpt2/README.md` says which of the files are then copied there.

mod corpus;
mod grammar;
mod sailor;
mod scene;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn_peft_data::{Tokenizer, train_bpe};
use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// The maximum number of tokens in the tokenizer; most words of a story are then one token.
const VOCAB_SIZE: usize = 1024;
/// The longest text the model takes, in tokens.
const N_POSITIONS: usize = 128;
/// The numbers of stories to train on and to evaluate on, before those that are too long are
/// removed.
const CORPUS: [usize; 2] = [20_000, 400];
const QUICKSTART: [usize; 2] = [640, 64];

/// Writes what the shipped GPT-2 is trained from.
#[derive(Parser)]
struct Args {
    /// Folder for corpus/, tokenizer.json and config.json.
    #[arg(long)]
    output: PathBuf,
    /// Folder for the fine-tuning set of configs/quickstart.toml, if it is wanted.
    #[arg(long)]
    quickstart: Option<PathBuf>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let corpus = draw(CORPUS, || corpus::story(&mut rng));
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    rng.set_stream(1);
    let quickstart = draw(QUICKSTART, || sailor::story(&mut rng));

    // The tokenizer knows both kinds of text, as a real one knows more than one style.
    let texts = corpus[0].iter().chain(&quickstart[0]);
    let tokenizer = train_bpe(texts, VOCAB_SIZE)?;
    write_set(&args.output.join("corpus"), &corpus, &tokenizer)?;
    if let Some(folder) = &args.quickstart {
        write_set(folder, &quickstart, &tokenizer)?;
    }

    tokenizer.save(args.output.join("tokenizer.json"))?;
    for (name, value) in model_files(&tokenizer) {
        write(&args.output.join(name), &format!("{value:#}\n"))?;
    }
    Ok(())
}

/// A training and a validation set of these sizes, in which no text repeats itself or another.
fn draw(counts: [usize; 2], mut tell: impl FnMut() -> String) -> [Vec<String>; 2] {
    let mut seen = HashSet::new();
    counts.map(|count| {
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            let text = tell();
            if !grammar::repeats(&text) && seen.insert(text.clone()) {
                texts.push(text);
            }
        }
        texts
    })
}

/// Writes `train.jsonl` and `validation.jsonl` and prints how large they are.
fn write_set(folder: &Path, texts: &[Vec<String>; 2], tokenizer: &Tokenizer) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, texts) in ["train.jsonl", "validation.jsonl"].into_iter().zip(texts) {
        let (mut lines, mut rows, mut tokens) = (String::new(), 0, 0);
        for text in texts {
            let length = tokenizer.encode(text)?.len();
            // One position is for the end of the text.
            if length < N_POSITIONS {
                lines += &format!("{}\n", json!({ "text": text }));
                rows += 1;
                tokens += length;
            }
        }
        let (file, bytes) = (folder.join(name), lines.len());
        write(&file, &lines)?;
        println!(
            "{}: {rows} texts, {tokens} tokens, {bytes} bytes",
            file.display()
        );
    }
    Ok(())
}

/// What transformers reads in addition to the weights and `tokenizer.json`.
fn model_files(tokenizer: &Tokenizer) -> [(&'static str, Value); 3] {
    let eos = tokenizer.eos_id();
    let text = burn_peft_data::END_OF_TEXT;
    let config = json!({
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        // Far more stories than the model can learn by heart: dropout would only slow it down.
        "attn_pdrop": 0.0,
        "bos_token_id": eos,
        "embd_pdrop": 0.0,
        "eos_token_id": eos,
        // GPT-2's 0.02 is for a width of 768; a narrower model learns more slowly from it.
        "initializer_range": 0.06,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_embd": 128,
        "n_head": 4,
        "n_inner": null,
        "n_layer": 4,
        "n_positions": N_POSITIONS,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": true,
        "vocab_size": tokenizer.vocab_size(),
    });
    let tokenizer_config = json!({
        "add_prefix_space": false,
        "bos_token": text,
        "clean_up_tokenization_spaces": false,
        "eos_token": text,
        "model_max_length": N_POSITIONS,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": text,
    });
    let generation_config = json!({ "bos_token_id": eos, "eos_token_id": eos });
    [
        ("config.json", config),
        ("tokenizer_config.json", tokenizer_config),
        ("generation_config.json", generation_config),
    ]
}

/// Writes a file completely or not at all.
fn write(file: &Path, text: &str) -> Result<()> {
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, file))
        .with_context(|| format!("cannot write {}", file.display()))
}
