//! `peft predict`: the labels of texts, or the tags of their words, by a classifier.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, Classes, Examples, IGNORE_INDEX, LabelKind, Tags, Task};
use burn_peft_files::atomic;
use burn_peft_models::{CausalLm, Head, LanguageModel};
use burn_peft_train::{Entity, best_label, entities, read_all, tag_scores, text_scores};
use serde_json::{Map, Value, json};

use super::eval::task_of;
use super::export::place::Place;
use crate::loading::{
    RowArgs, find_data, find_model, find_tokenizer, limits, open, rows_help, warn_of_template,
};
use crate::output::{evaluation_bar, say};

const EXAMPLE: &str = "\
Examples:
  peft predict --model gpt2 --adapter out --data reviews.jsonl
  peft predict --model gpt2 --adapter out --data reviews.jsonl --output labels.jsonl

A line of JSON for each row: its number, the label and the probability of every label; of a model that
learnt several labels at once all labels whose probability is above one half; of one that learnt a
number the number. Rows need no label: of one that is there, whether it was found is told too.

A row has `text` (or sentence, review, content), or two texts: sentence1 and sentence2, premise and
hypothesis, question1 and question2; or a chat in `messages`; or tokens in `input_ids`.

Of a model that tags words: the tag of each word and the entities that they make, with where they begin
and end, counted in `tokens` (or words), or in the characters of `text`, which is cut into words and
marks.";

/// The command line of `peft predict`.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", rows_help()))]
pub struct Args {
    /// The model: a folder with config.json and model.safetensors, a GGUF file, or a Hub id (gpt2,
    /// organisation/name, with @revision where wanted)
    #[arg(long, value_name = "DIR|FILE|ID")]
    model: String,
    /// The adapter: a folder with adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The rows: a file, a folder, or a data set on the Hub (below)
    #[arg(long, value_name = "FILE")]
    data: String,
    /// The file that gets the lines; standard output unless set
    #[arg(long, value_name = "OUT.jsonl")]
    output: Option<PathBuf>,
    #[command(flatten)]
    rows: RowArgs,
}

/// Runs `peft predict`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    // Whether the file can be written is known before anything is computed.
    let place = args.output.as_deref().map(|output| {
        let shown = output.display();
        ensure!(!output.is_dir(), "{shown} is a folder: name a file in it");
        Place::beside(output)
    });
    let place = place.transpose()?;
    let files = find_model(&args.model)?;
    let tokenizer = find_tokenizer(&files, args.rows.tokenizer.as_deref())?;
    let model = open(&files, args.adapter.as_deref(), device)?
        .no_grad()
        .valid();
    let head = model.head();
    if !head.classifies() {
        bail!(
            "the model has no head that scores labels (task_type = {}): name an adapter that was \
             trained with training.objective = \"classify\", \"tag\" or \"reward\"",
            head.task
        );
    }
    let config = args.rows.config(&args.data);
    warn_of_template(&config);
    let task = Classes {
        takes_unlabelled: true,
        ..task_of(&head)
    };
    let words = Tags {
        places: true,
        ..Tags::default()
    };
    let is_tagger = head.task == TaskType::TokenCls;
    let rows: &dyn Task = if is_tagger { &words } else { &task };
    let tokenizer = tokenizer.as_ref();
    let limits = limits(&model);
    let examples = Examples::load_with(&args.data, &config, tokenizer, limits, &find_data, rows)?;
    for line in &examples.left_out {
        tracing::warn!("{}: {line}", examples.file);
    }
    let batch_size = args.rows.batch_size;
    let lines = lines(&examples, batch_size, &|batch| {
        if is_tagger {
            tagged(&model, &head, batch)
        } else {
            labelled(&model, &head, &task, batch)
        }
    })?;
    let Some(place) = place else {
        for line in lines {
            say(line)?;
        }
        return Ok(());
    };
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    let written = atomic::write(place.file(), text.as_bytes());
    written.with_context(|| format!("cannot write {}", place.output().display()))?;
    let output = place.keep()?;
    say(format!("{}: {} rows", output.display(), examples.len()))
}

/// What is said of a row.
type Line = Map<String, Value>;

/// The lines of all rows, in their order; `of_batch` makes those of some of them. Rows of like length
/// are computed together.
fn lines(
    examples: &Examples,
    batch_size: usize,
    of_batch: &dyn Fn(&Batch) -> Result<Vec<Line>>,
) -> Result<Vec<String>> {
    let lengths = examples.lengths();
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let bar = evaluation_bar("predicting", examples.len());
    let mut lines = vec![String::new(); examples.len()];
    for indices in order.chunks(batch_size.max(1)) {
        let batch = examples.batch(indices);
        let found = of_batch(&batch)?.into_iter();
        for ((found, &row), &index) in found.zip(&batch.rows).zip(indices) {
            let mut line = Map::from_iter([("row".to_string(), row.into())]);
            line.extend(found);
            lines[index] = Value::Object(line).to_string();
        }
        bar.inc(indices.len() as u64);
    }
    bar.finish_and_clear();
    Ok(lines)
}

/// The labels of the texts of a batch.
fn labelled(
    model: &LanguageModel,
    head: &Head,
    task: &Classes,
    batch: &Batch,
) -> Result<Vec<Line>> {
    let scores = read_all(text_scores(model, batch))?;
    let labels = batch.example_labels().map(|labels| labels[0]);
    let rows = scores.chunks(head.num_labels()).zip(labels);
    let line = |(scores, label): (&[f64], i64)| {
        let mut line = predicted(scores, head, task.kind);
        if label != Classes::UNLABELLED && task.kind == LabelKind::One {
            line.insert(
                "is_right".into(),
                (best_label(scores) as i64 == label).into(),
            );
        }
        line
    };
    Ok(rows.map(line).collect())
}

/// The tags of the words of a batch's texts, and the entities that they make.
fn tagged(model: &LanguageModel, head: &Head, batch: &Batch) -> Result<Vec<Line>> {
    let scores = read_all(tag_scores(model, batch))?;
    let mut found = scores.chunks(head.num_labels()).map(best_label);
    let names = &head.labels.names;
    let line = |labels: &[i64]| {
        let words = labels.iter().filter(|label| **label != IGNORE_INDEX);
        let places: Vec<(usize, usize)> = words.map(|&label| Tags::place(label)).collect();
        let tags = places
            .iter()
            .map(|_| found.next().and_then(|tag| names.get(tag)));
        let tags: Vec<&str> = tags.map(|tag| tag.map_or("O", String::as_str)).collect();
        let of_entity = |entity: Entity| {
            json!({
                "type": entity.kind,
                "start": places[entity.start].0,
                "end": places[entity.end - 1].1,
            })
        };
        let entities = entities(tags.iter().copied()).into_iter().map(of_entity);
        let line = json!({ "tags": tags, "entities": entities.collect::<Vec<_>>() });
        line.as_object().cloned().unwrap_or_default()
    };
    Ok(batch.example_labels().map(line).collect())
}

/// What a model says of a text, by the scores of its labels.
fn predicted(scores: &[f64], head: &Head, kind: LabelKind) -> Map<String, Value> {
    let names = &head.labels.names;
    let probabilities: Vec<f64> = match kind {
        LabelKind::Number => Vec::new(),
        LabelKind::One => {
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
        LabelKind::Several => scores
            .iter()
            .map(|score| 1.0 / (1.0 + (-score).exp()))
            .collect(),
    };
    let by_name = names.iter().zip(&probabilities);
    let by_name: Map<String, Value> = by_name
        .map(|(name, &of)| (name.clone(), of.into()))
        .collect();
    let said = match kind {
        LabelKind::Number => json!({ "value": scores.first() }),
        LabelKind::One => json!({
            "label": names.get(best_label(scores)),
            "probabilities": by_name,
        }),
        LabelKind::Several => {
            let found = names.iter().zip(scores).filter(|(_, score)| **score > 0.0);
            let found: Vec<&String> = found.map(|(name, _)| name).collect();
            json!({ "labels": found, "probabilities": by_name })
        }
    };
    said.as_object().cloned().unwrap_or_default()
}
