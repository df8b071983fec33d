//! A semantic search: finds the rows of a file whose vectors are nearest to a question's vector.
//!
//! ```text
//! cargo run --release --example search -- MODEL TEXTS.jsonl "Who lights the lamp?" [ADAPTER]
//! ```
//!
//! MODEL is a folder or a Hub id, ADAPTER an adapter such as the one that
//! `configs/embed-minilm.toml` trains. Texts are in the column `text`. How the vectors are computed
//! is read from the files of sentence-transformers.

use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::PeftModel;
use burn_peft_data::{Batch, Example, IGNORE_INDEX, Tokenizer};
use burn_peft_models::embeddings::Modules;
use burn_peft_models::hub::{self, ModelFiles};
use burn_peft_models::weights::Reading;
use burn_peft_models::{AutoModel, LanguageModel, WantedHead};
use burn_peft_train::{embeddings, read_all};
use serde_json::Value;

/// Computes vectors of length one.
struct Embedder {
    model: LanguageModel,
    tokenizer: Tokenizer,
    modules: Modules,
}

impl Embedder {
    fn load(model: &str, adapter: Option<&Path>) -> Result<Self> {
        let files = hub::resolve(model, &["config.json", "tokenizer.json"], &[])?;
        let none = WantedHead::none();
        let base = AutoModel::with_head(&files, &Device::flex(), Reading::InBlocks, &none)?;
        let mut modules = Modules::read(&files)?;
        let model = match adapter {
            None => LanguageModel::from(base),
            Some(adapter) => {
                let own = Modules::read(&ModelFiles::folder(adapter))?;
                modules = own.or(modules);
                PeftModel::from_pretrained(base, adapter, false)?.into()
            }
        };
        let mut modules = modules.unwrap_or_default();
        modules.embedder.normalize = true;
        Ok(Self {
            model: model.no_grad().valid(),
            tokenizer: Tokenizer::load(files.path())?,
            modules,
        })
    }

    fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::new();
        for some in texts.chunks(32) {
            let example = |(row, text): (usize, &String)| {
                let max = self.modules.max_seq_length.unwrap_or(512);
                let input_ids = self.tokenizer.encode_within(text, None, max)?.ids;
                anyhow::Ok(Example {
                    labels: vec![IGNORE_INDEX; input_ids.len()],
                    input_ids,
                    row,
                })
            };
            let examples: Vec<Example> = some
                .iter()
                .enumerate()
                .map(example)
                .collect::<Result<_>>()?;
            let batch = Batch::collate(&examples, 0, None);
            let vectors = embeddings(&self.model, self.modules.embedder, &batch);
            let [_, d] = vectors.dims();
            all.extend(read_all(vectors)?.chunks(d).map(<[f64]>::to_vec));
        }
        Ok(all)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (model, file, question, adapter) = match &args[..] {
        [model, file, question] => (model, file, question, None),
        [model, file, question, adapter] => (model, file, question, Some(Path::new(adapter))),
        _ => anyhow::bail!("give MODEL TEXTS.jsonl QUESTION [ADAPTER]"),
    };
    let rows = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let text = |line: &str| {
        let row: Value = serde_json::from_str(line)?;
        let text = row["text"].as_str().map(str::to_string);
        text.with_context(|| format!("no column text in {line}"))
    };
    let texts: Vec<String> = rows.lines().map(text).collect::<Result<_>>()?;
    let embedder = Embedder::load(model, adapter)?;
    let question = embedder.vectors(std::slice::from_ref(question))?.concat();
    let vectors = embedder.vectors(&texts)?;
    let likeness =
        |vector: &Vec<f64>| -> f64 { vector.iter().zip(&question).map(|(a, b)| a * b).sum() };
    let mut found: Vec<(f64, &String)> = vectors.iter().map(likeness).zip(&texts).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (likeness, text) in found.iter().take(3) {
        println!("{likeness:.3}  {text}");
    }
    Ok(())
}
