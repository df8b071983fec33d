//! `peft predict`: predicts the labels of texts, the tags of their words, or their vectors.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft_data::{AskedRow, Batch, Classes, SampleBy, Source, Tags, Task, Tokenizer, ask_rows};
use burn_peft_models::{CausalLm, LanguageModel};
use serde_json::{Map, Value};

use self::batches::batches;
use self::labels::labelled;
use self::output::Output;
use self::tags::tagged;
use super::eval::task_of;
use burn_peft_train::limits;

use crate::loading::{
    EmbedderArgs, KeptArgs, ModelArgs, RowArgs, find_data, find_model, find_tokenizer, open,
    sources_help, warn_of_template,
};
use crate::output::counted;
use crate::output_file::check_input;

pub(super) mod batches;
mod labels;
mod output;
mod tags;
mod vectors;

const EXAMPLE: &str = "\
Examples:
  peft predict --model gpt2 --adapter out --data reviews.jsonl
  peft predict --model gpt2 --adapter out --data reviews.jsonl --output labels.jsonl
  peft predict --model all-MiniLM-L6-v2 --data texts.jsonl --output vectors.safetensors

The output is one line of JSON for each row: its number, the label, and the probability of every label.
For a model that learnt several labels at once, it is all labels with a probability above one half; for
a model that learnt a number, it is the number. Rows need no label; if a row has one, the line also says
whether it was predicted. A row with nothing to judge, such as an empty text, or without its column of
text, has a line with an `error`.

The lines come in the order of the rows, about 2,000 rows at a time, and rows of similar length are
computed together: a file may have any number of rows. The --output file is complete or does not exist;
a destination that is not a file, such as a pipe, gets the lines as they are computed.

A row has `text` (or sentence, review, content), or two texts: sentence1 and sentence2, premise and
hypothesis, question1 and question2; or a chat in `messages`; or tokens in `input_ids`.

For a model that tags words: the tag of each word, and the entities that the words form, with where they
begin and end. These are counted in `tokens` (or words), or in the characters of `text`, which is split
into words and punctuation marks.

For an embedding model (an adapter trained with training.objective = \"embed\", a sentence-transformers
folder, or any model with --pooling): one vector for each text. Lines of JSON have the row's number and
its embedding; a file that ends in .safetensors has embeddings [rows, d] and row [rows]. A text without
tokens has no vector: its line has an `error`, and a file of tensors leaves out its row. For rows of
several texts (anchor, positive, …), each column has its own vectors.";

/// The command line of `peft predict`.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", sources_help()))]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    kept: KeptArgs,
    /// The rows: a file, a folder, or a data set on the Hub (below)
    #[arg(long, value_name = "FILE")]
    data: String,
    /// The file for the lines; standard output unless set. Vectors can also go to a .safetensors
    /// file
    #[arg(long, value_name = "OUT.jsonl")]
    output: Option<PathBuf>,
    #[command(flatten)]
    embedder: EmbedderArgs,
    /// The prompt to put before every text, by its name in the model's
    /// config_sentence_transformers.json
    #[arg(long, value_name = "NAME")]
    prompt_name: Option<String>,
    #[command(flatten)]
    rows: RowArgs,
}

/// Runs `peft predict`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    if vectors::are_wanted(&args, &files)? {
        return vectors::run(&args, &files, device);
    }
    // Checks that the file can be written before anything is computed.
    let mut output = Output::new(output_of(&args)?)?;
    let tokenizer = find_tokenizer(&files, args.rows.tokenizer.as_deref())?;
    let model = open(&files, args.model.adapter.as_deref(), &args.kept, device)?
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
    check_objective(&args, head.task)?;
    check_of_classifier(&args)?;
    let config = args.rows.config(&args.data);
    warn_of_template(&config);
    let texts = Classes {
        takes_unlabelled: true,
        ..task_of(&head)
    };
    let words = Tags {
        numbers_words: true,
        ..Tags::default()
    };
    let is_tagger = head.task == TaskType::TokenCls;
    let task: &dyn Task = if is_tagger { &words } else { &texts };
    let asked = Asked {
        model: &model,
        pad_id: pad_id(tokenizer.as_ref(), model.vocab_size()),
        batch_size: args.rows.batch_size,
    };
    let (mut failed, mut unread) = (None, 0);
    let mut take = |rows: Vec<AskedRow>| {
        unread += rows.iter().filter(|row| row.problem.is_some()).count();
        let lines = asked.lines(&rows, &|batch, rows| {
            if is_tagger {
                tagged(&model, &head, batch, rows)
            } else {
                labelled(&model, &head, &texts, batch)
            }
        });
        match lines.and_then(|lines| output.write(&lines)) {
            Ok(goes_on) => goes_on,
            Err(error) => {
                failed = Some(error);
                false
            }
        }
    };
    let tokenizer = tokenizer.as_ref();
    let limits = limits(&model);
    let cut = ask_rows(
        &args.data, &config, tokenizer, limits, &find_data, task, &mut take,
    );
    if let Some(error) = failed {
        return Err(error);
    }
    for line in cut? {
        tracing::warn!("{}: {line}", args.data);
    }
    if unread > 0 {
        let rows = counted(unread, "row");
        tracing::warn!("{}: {rows} cannot be read; `error` says why", args.data);
    }
    output.finish()
}

/// Where the file goes; `None` for standard output, which may be given by one of its names in the
/// system. Input files are not overwritten.
fn output_of(args: &Args) -> Result<Option<&Path>> {
    let names = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    let output = args.output.as_deref();
    let output = output.filter(|path| !names.iter().any(|name| *path == Path::new(name)));
    if let Some(output) = output.filter(|output| output.is_file()) {
        let source = Source::open(&args.data, SampleBy::default(), &find_data)?;
        check_input(output, source.paths())?;
    }
    Ok(output)
}

/// Rejects an objective that is not the model's.
fn check_objective(args: &Args, has: TaskType) -> Result<()> {
    let other = args.rows.objective;
    let other = other.filter(|objective| objective.kind().task_type != has);
    if let Some(objective) = other {
        bail!(
            "--objective {objective} is for task_type = {}, and this model is for {has}: leave the option \
             out",
            objective.kind().task_type
        );
    }
    Ok(())
}

/// Rejects options that apply only to embedding models.
fn check_of_classifier(args: &Args) -> Result<()> {
    ensure!(
        args.prompt_name.is_none(),
        "--prompt-name is for models for embeddings, and this one classifies: leave the option out"
    );
    let output = args.output.as_deref().and_then(Path::extension);
    ensure!(
        output.is_none_or(|end| end != "safetensors"),
        "--output: a classifier writes lines of JSON, not tensors: give a name such as labels.jsonl"
    );
    Ok(())
}

/// The padding token of batches.
fn pad_id(tokenizer: Option<&Tokenizer>, vocab_size: usize) -> u32 {
    let eos = tokenizer.and_then(Tokenizer::eos_id);
    eos.filter(|&eos| (eos as usize) < vocab_size).unwrap_or(0)
}

/// What is printed for a row.
type Line = Map<String, Value>;

/// Computes the lines of a batch and its rows.
type OfBatch<'a> = dyn Fn(&Batch, &[&AskedRow]) -> Result<Vec<Line>> + 'a;

/// How rows are predicted.
struct Asked<'a> {
    model: &'a LanguageModel,
    pad_id: u32,
    /// The number of rows in a batch, if set.
    batch_size: Option<usize>,
}

impl Asked<'_> {
    /// The lines of some rows, in order; `of_batch` computes those of a batch. Rows of similar
    /// length are computed together.
    fn lines(&self, rows: &[AskedRow], of_batch: &OfBatch) -> Result<Vec<String>> {
        let is_tagger = self.model.head().task == TaskType::TokenCls;
        let mut lines: Vec<Line> = Vec::with_capacity(rows.len());
        lines.extend(rows.iter().map(|row| {
            if is_tagger && row.problem.is_none() {
                tags::untagged(row)
            } else {
                labels::unlabelled(row)
            }
        }));
        let lengths: Vec<usize> = rows.iter().map(tokens).collect();
        for places in batches(&lengths, self.batch_size) {
            let chosen: Vec<&AskedRow> = places.iter().map(|&at| &rows[at]).collect();
            let examples = chosen.iter().filter_map(|row| row.example.clone());
            let batch = Batch::collate(&examples.collect::<Vec<_>>(), self.pad_id, None);
            for (found, at) in of_batch(&batch, &chosen)?.into_iter().zip(places) {
                lines[at] = found;
            }
        }
        let lines = rows.iter().zip(lines).map(|(row, found)| {
            let mut line = Line::from_iter([("row".to_string(), row.row.into())]);
            line.extend(found);
            Value::Object(line).to_string()
        });
        Ok(lines.collect())
    }
}

/// The number of tokens of a row; 0 if there is nothing to predict.
fn tokens(row: &AskedRow) -> usize {
    row.example
        .as_ref()
        .map_or(0, |example| example.input_ids.len())
}
