//! `peft predict`: the labels of texts, by a classifier.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft_data::{Classes, Examples, LabelKind};
use burn_peft_files::atomic::{put, temporary_file};
use burn_peft_models::{CausalLm, Head, LanguageModel};
use burn_peft_train::{best_label, text_scores};
use serde_json::{Map, Value, json};

use super::eval::task_of;
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
hypothesis, question1 and question2; or a chat in `messages`; or tokens in `input_ids`.";

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
    let files = find_model(&args.model)?;
    let tokenizer = find_tokenizer(&files, args.rows.tokenizer.as_deref())?;
    let model = open(&files, args.adapter.as_deref(), device)?
        .no_grad()
        .valid();
    let head = model.head();
    if head.task != TaskType::SeqCls {
        bail!(
            "the model has no head that judges texts (task_type = {}): name an adapter that was \
             trained with training.objective = \"classify\" or \"reward\"",
            head.task
        );
    }
    let config = args.rows.config(&args.data);
    warn_of_template(&config);
    let task = Classes {
        takes_unlabelled: true,
        ..task_of(&head)
    };
    let tokenizer = tokenizer.as_ref();
    let limits = limits(&model);
    let examples = Examples::load_with(&args.data, &config, tokenizer, limits, &find_data, &task)?;
    for line in &examples.left_out {
        tracing::warn!("{}: {line}", examples.file);
    }
    let lines = lines(&model, &head, &task, &examples, args.rows.batch_size);
    let Some(output) = &args.output else {
        for line in lines {
            say(line)?;
        }
        return Ok(());
    };
    let cannot = || format!("cannot write {}", output.display());
    let mut file = BufWriter::new(temporary_file(output).with_context(cannot)?);
    for line in lines {
        writeln!(file, "{line}").with_context(cannot)?;
    }
    let file = file.into_inner().map_err(|error| error.into_error());
    put(file.with_context(cannot)?, output).with_context(cannot)?;
    say(format!("{}: {} rows", output.display(), examples.len()))
}

/// The lines of all rows, in their order. Rows of like length are computed together.
fn lines(
    model: &LanguageModel,
    head: &Head,
    task: &Classes,
    examples: &Examples,
    batch_size: usize,
) -> Vec<String> {
    let lengths = examples.lengths();
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let bar = evaluation_bar("predicting", examples.len());
    let mut lines = vec![String::new(); examples.len()];
    for indices in order.chunks(batch_size.max(1)) {
        let batch = examples.batch(indices);
        let scores = text_scores(model, &batch).into_data().convert::<f32>();
        let scores: Vec<f64> = scores.iter::<f64>().collect();
        let labels: Vec<i64> = batch.example_labels().map(|labels| labels[0]).collect();
        let rows = scores
            .chunks(head.num_labels())
            .zip(&labels)
            .zip(&batch.rows);
        for (((scores, &label), &row), &index) in rows.zip(indices) {
            let mut line = predicted(scores, head, task.kind);
            line.insert("row".into(), row.into());
            if label != Classes::UNLABELLED && task.kind == LabelKind::One {
                line.insert(
                    "is_right".into(),
                    (best_label(scores) as i64 == label).into(),
                );
            }
            lines[index] = Value::Object(line).to_string();
        }
        bar.inc(indices.len() as u64);
    }
    bar.finish_and_clear();
    lines
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
