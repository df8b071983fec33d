//! Generates the data of `configs/sentiment.toml`, and the configuration and the tokenizer of the
//! small BERT that it trains: short sentences of reviews that are negative, neutral or positive.
//! Every word comes from the file `frames.rs` in this folder; the same seed gives the same bytes.
//!
//! ```text
//! cargo run --release --example sentiment -- --data data/sentiment --model assets/tiny-bert
//! ```
//!
//! `assets/tiny-bert/README.md` says how its weights were made.

mod frames;
#[path = "../tiny_gpt2/grammar.rs"]
#[allow(dead_code, reason = "it is the stories' too")]
mod grammar;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::frames::{FRAMES, LABELS, WORDS};
use crate::grammar::{Scene, tell};

/// Rows to train on, and held out.
const ROWS: [usize; 2] = [3_000, 400];
/// One of this many frames is used in held-out rows only.
const HELD_OUT: usize = 6;

/// Writes the sentences, and what the small BERT is made from.
#[derive(Parser)]
struct Args {
    /// Folder for train.jsonl and validation.jsonl.
    #[arg(long)]
    data: PathBuf,
    /// Folder for config.json, tokenizer.json and tokenizer_config.json.
    #[arg(long)]
    model: PathBuf,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut seen = HashSet::new();
    let [train, validation] = [false, true].map(|is_held_out| {
        let count = ROWS[usize::from(is_held_out)];
        rows(count, is_held_out, &mut seen, &mut rng)
    });
    for (name, rows) in [("train.jsonl", &train), ("validation.jsonl", &validation)] {
        let lines = rows
            .iter()
            .map(|(text, label)| format!("{}\n", json!({ "text": text, "label": LABELS[*label] })));
        write(&args.data.join(name), &lines.collect::<String>())?;
    }
    let vocab = vocabulary(train.iter().map(|(text, _)| text.as_str()));
    let files = [
        ("config.json", config(vocab.len())),
        ("tokenizer.json", tokenizer(&vocab)),
        ("tokenizer_config.json", tokenizer_config()),
    ];
    for (name, value) in files {
        write(&args.model.join(name), &format!("{value:#}\n"))?;
    }
    println!(
        "{} rows to train on, {} held out, {} tokens known",
        train.len(),
        validation.len(),
        vocab.len()
    );
    Ok(())
}

/// This many sentences with their labels, without duplicates and without those in `seen`.
fn rows(
    count: usize,
    is_held_out: bool,
    seen: &mut HashSet<String>,
    rng: &mut impl Rng,
) -> Vec<(String, usize)> {
    let mut scene = Scene::default();
    for (key, words) in WORDS {
        scene.set(key, words);
    }
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        let label = rng.random_range(0..LABELS.len());
        let frame = rng.random_range(0..FRAMES[label].len());
        let is_kept = frame % HELD_OUT == HELD_OUT - 1;
        if is_kept && !is_held_out {
            continue;
        }
        let text = tell(&[&[FRAMES[label][frame]]], &scene, rng);
        if seen.insert(text.clone()) {
            rows.push((text, label));
        }
    }
    rows
}

/// The tokenizer's vocabulary: letters, with which it spells all other words, and the words of
/// these texts.
fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let mut vocab: Vec<String> = special.map(String::from).to_vec();
    vocab.extend(
        ('!'..='~')
            .filter(|letter| !letter.is_uppercase())
            .map(String::from),
    );
    let within = ('0'..='9').chain('a'..='z');
    vocab.extend(within.map(|letter| format!("##{letter}")));
    let words = texts.flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
    let words: BTreeSet<String> = words.map(str::to_lowercase).collect();
    vocab.extend(words.into_iter().filter(|word| word.len() > 1));
    vocab
}

fn config(vocab_size: usize) -> Value {
    json!({
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 128,
        // BERT's 0.02 is for a width of 768; a narrower model learns more slowly from it.
        "initializer_range": 0.06,
        "intermediate_size": 256,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 64,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
    })
}

/// BERT's WordPiece.
fn tokenizer(vocab: &[String]) -> Value {
    let ids = vocab.iter().enumerate();
    let ids: Map<String, Value> = ids.map(|(id, token)| (token.clone(), id.into())).collect();
    let added = vocab.iter().take(5).enumerate().map(|(id, token)| {
        json!({
            "id": id, "content": token, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        })
    });
    let special =
        |token: &str, type_id| json!({ "SpecialToken": { "id": token, "type_id": type_id } });
    let text = |of: &str, type_id| json!({ "Sequence": { "id": of, "type_id": type_id } });
    let (cls, sep) = (special("[CLS]", 0), special("[SEP]", 0));
    let known = |token: &str, id| json!({ "id": token, "ids": [id], "tokens": [token] });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, text("A", 0), sep],
            "pair": [cls, text("A", 0), sep, text("B", 1), special("[SEP]", 1)],
            "special_tokens": { "[CLS]": known("[CLS]", 2), "[SEP]": known("[SEP]", 3) },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids,
        },
    })
}

fn tokenizer_config() -> Value {
    json!({
        "cls_token": "[CLS]",
        "do_lower_case": true,
        "mask_token": "[MASK]",
        "model_max_length": 64,
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "tokenizer_class": "BertTokenizer",
        "unk_token": "[UNK]",
    })
}

/// Writes a file completely or not at all.
fn write(file: &Path, text: &str) -> Result<()> {
    let temporary = file.with_extension("tmp");
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, text))
        .and_then(|()| fs::rename(&temporary, file))
        .with_context(|| format!("cannot write {}", file.display()))
}
