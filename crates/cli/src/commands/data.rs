//! `peft data`: shows the content of a data file as training would see it.

use std::path::Path;

use anyhow::Result;
use burn_peft::parameters::thousands;
use burn_peft_data::{
    DataError, Example, Examples, Limits, Overview, Padding, Task, Tokenizer, folder_and_split,
    histogram,
};
use burn_peft_models::AutoConfig;
use burn_peft_train::TrainConfig;
use serde_json::{Value, json};

use super::train::settle_labels;
use crate::loading::{
    AnswerArgs, RowArgs, find_data, find_model, find_tokenizer, open_tokenizer, rows_help,
    warn_of_space, warn_of_template,
};
use crate::output::{coloured, counted, say, say_json};

mod config;
mod rows;
mod text;

const EXAMPLE: &str = "\
Examples:
  peft data reviews.jsonl
  peft data reviews.jsonl --model gpt2
  peft data 'stanfordnlp/imdb:train[:500]' --tokenizer gpt2 --max-length 512 --summary
  peft data chats.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct --json
  peft data my-run.toml                          (the data sets of a training file)

Shows what was detected, how long the examples are, how much of each batch would be padding, and three
examples, with the trained parts between [ and ] (in colour on a terminal, unless NO_COLOR is set).
Without a model or a tokenizer, lengths are in characters.

With --json, every row is printed as training sees it, one object per line: row, text (as rendered, with
special tokens), input_ids and labels (-100 where nothing is learnt); or skipped, the reason why nothing
of the row is learnt; and truncated if tokens were cut off. For a pair, each answer is an object of its
own, whose answer is chosen or rejected.";

/// The number of bars in the histogram, and the width of the longest.
const BARS: usize = 10;
const WIDTH: usize = 40;
/// The number of examples shown, and of tokens in each.
const SHOWN: usize = 3;
const TOKENS: usize = 120;
/// Seed for the order of the batches in which padding is counted.
const SEED: u64 = 42;

/// The command line of `peft data`.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", rows_help()))]
pub struct Args {
    /// The rows: a file, a folder, or a data set on the Hub (below); or a training file
    #[arg(value_name = "FILE")]
    file: String,
    /// The model whose tokenizer and longest sequence apply: a folder, a GGUF file or a Hub id
    #[arg(long, value_name = "DIR|ID")]
    model: Option<String>,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    /// Print a JSON object for each row: text, input_ids and labels, or why it is skipped
    #[arg(long)]
    json: bool,
    /// Print everything as one JSON object
    #[arg(long, conflicts_with = "json")]
    summary: bool,
}

/// Runs `peft data`.
pub fn run(args: Args) -> Result<()> {
    if config::is_config(&args.file) {
        return config::run(args);
    }
    let (tokenizer, limits) = tokenizer(&args)?;
    let config = args.answers.config(&args.rows, &args.file);
    warn_of_template(&config);
    let file = &args.file;
    let objective = args.rows.objective(file, &config);
    let mut settings = TrainConfig::of_objective(objective);
    settings.data.clone_from(&config);
    let files = args.model.as_deref().map(find_model).transpose()?;
    settle_labels(&mut settings, files.as_ref(), Path::new(file))?;
    let task = (objective.kind().task)(&settings);
    if args.json {
        return rows::print(file, &config, tokenizer.as_ref(), limits, &*task);
    }
    if tokenizer.is_none()
        && let Some(seen) = Overview::read(file, &config, &find_data)?
    {
        return if args.summary {
            say_json(&text::json(&seen))
        } else {
            text::show(&seen).and_then(|()| show_splits(file))
        };
    }
    let load = |limits| {
        let tokenizer = tokenizer.as_ref();
        Examples::load_with(file, &config, tokenizer, limits, &find_data, &*task)
    };
    let examples = match load(limits) {
        // All rows are to be shown.
        Err(DataError::TooLong { .. }) => load(Limits {
            max_positions: usize::MAX,
            ..limits
        }),
        loaded => loaded,
    }?;
    warn_of_space(&examples, tokenizer.as_ref());
    let lengths = examples.lengths();
    let longest = examples.longest();
    // As in training; without a model, to the longest row.
    let packed_to = args
        .rows
        .max_length
        .unwrap_or(match limits.default_length() {
            usize::MAX => longest,
            length => length,
        });
    let cut = |&length: &usize| {
        if limits.forbid(length) {
            limits.max_positions
        } else {
            length
        }
    };
    let cut: Vec<usize> = lengths.iter().map(cut).collect();
    let padding = Padding::count(&cut, args.rows.batch_rows(), packed_to, SEED)?;
    let report = Report {
        task: &*task,
        examples: &examples,
        lengths,
        limits,
        padding,
        packed_to,
        batch_size: args.rows.batch_rows(),
        tokenizer: tokenizer.as_ref(),
    };
    if args.summary {
        say_json(&report.json()?)
    } else {
        report.show().and_then(|()| show_splits(file))
    }
}

/// The tokenizer and model given by the options.
fn tokenizer(args: &Args) -> Result<(Option<Tokenizer>, Limits)> {
    let given = args.rows.tokenizer.as_deref();
    if let Some(model) = &args.model {
        let files = find_model(model)?;
        let config = AutoConfig::from_file(files.get("config.json")?)?;
        let positions_key = config.positions_key();
        let config = config.common();
        let limits = Limits {
            max_positions: config.max_positions,
            has_last_position: config.has_last_position,
            positions_key,
            adapter_positions: 0,
            vocab_size: config.vocab_size,
        };
        return Ok((find_tokenizer(&files, given)?, limits));
    }
    let tokenizer = given.map(open_tokenizer).transpose()?;
    let limits = Limits {
        max_positions: usize::MAX,
        has_last_position: true,
        positions_key: "max_position_embeddings",
        adapter_positions: 0,
        // Without a model, any token ids in a file are valid.
        vocab_size: u32::MAX as usize,
    };
    Ok((tokenizer, limits))
}

/// The splits of a folder that were not shown.
fn show_splits(file: &str) -> Result<()> {
    let Some((folder, None)) = folder_and_split(file) else {
        return Ok(());
    };
    let splits = ["validation", "test"].map(|split| format!("{folder}:{split}"));
    for split in splits {
        // A missing split is an error elsewhere, but not here.
        if let Ok(Some(files)) = find_data(&split) {
            let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
            say(format!("see also {split}: {}", files.join(", ")))?;
        }
    }
    Ok(())
}

struct Report<'a> {
    task: &'a dyn Task,
    examples: &'a Examples,
    lengths: Vec<usize>,
    limits: Limits,
    padding: Padding,
    packed_to: usize,
    batch_size: usize,
    tokenizer: Option<&'a Tokenizer>,
}

impl Report<'_> {
    /// The first example, the middle one and the last: they show more than the first three.
    fn shown(&self) -> Vec<Example> {
        let last = self.examples.sequences() - 1;
        let mut indices = vec![0, last / 2, last];
        indices.dedup();
        let shown = indices.into_iter().take(SHOWN);
        shown
            .flat_map(|index| self.examples.sequence(index))
            .collect()
    }

    /// The examples that are too long for the model.
    fn too_long(&self) -> usize {
        let lengths = self.lengths.iter();
        lengths
            .filter(|length| self.limits.forbid(**length))
            .count()
    }

    fn show(&self) -> Result<()> {
        let examples = self.examples;
        say(format!("{}: {}", examples.file, examples.shape))?;
        let (tokens, trained) = (examples.tokens(), examples.supervised());
        let share = 100.0 * trained as f64 / tokens as f64;
        say(format!(
            "{}, {}, {} of them trained on ({share:.1} %)",
            counted_examples(self.task, examples),
            counted(tokens, "token"),
            thousands(trained)
        ))?;
        for line in &examples.left_out {
            say(line)?;
        }
        let too_long = self.too_long();
        if too_long > 0 {
            say(format!(
                "{} rows are too long, with more tokens than {}: training stops at the first, unless \
                 data.max_length = {} cuts them",
                thousands(too_long),
                self.limits.positions(),
                self.limits.max_positions
            ))?;
        }
        let thing = if self.task.examples_per_row() > 1 {
            "a pair"
        } else {
            "an example"
        };
        show_lengths(&format!("tokens of {thing}"), &self.lengths)?;
        self.show_padding()?;
        say("")?;
        for (index, example) in self.shown().iter().enumerate() {
            let answer = self.answer(example, index);
            let answer = answer.map_or_else(String::new, |answer| format!(", {answer}"));
            let length = example.input_ids.len();
            let place = format!("row {}{answer}, {length} tokens", example.row);
            say(format!(
                "{place}:\n  {}",
                self.render(example)?.replace('\n', "\n  ")
            ))?;
        }
        Ok(())
    }

    /// How much of the batches would be padding.
    fn show_padding(&self) -> Result<()> {
        let Padding {
            longest,
            group_by_length,
            packing,
            packed_rows,
        } = self.padding;
        say(format!("\npadding in batches of {}:", self.batch_size))?;
        let packs = self.task.packs() && self.task.examples_per_row() == 1;
        let packed = packs.then(|| {
            (
                packing,
                format!(
                    "data.packing = true: {} of up to {} tokens",
                    counted(packed_rows, "row"),
                    thousands(self.packed_to)
                ),
            )
        });
        let ways = [
            (longest, "padded to the longest of the batch".to_string()),
            (
                group_by_length,
                "training.group_by_length = true".to_string(),
            ),
        ];
        for (share, how) in ways.into_iter().chain(packed) {
            say(format!("  {:>5.1} %  {how}", 100.0 * share))?;
        }
        Ok(())
    }

    /// An example's text with the learnt parts marked, shortened if it is long.
    fn render(&self, example: &Example) -> Result<String> {
        let shown = example.input_ids.len().min(TOKENS);
        let trained = self.task.is_trained(&example.labels);
        let tokens = example.input_ids[..shown].iter().copied();
        let tokens: Vec<(u32, bool)> = tokens.zip(trained).collect();
        let mut pieces = Vec::new();
        for part in tokens.chunk_by(|a, b| a.1 == b.1) {
            let ids: Vec<u32> = part.iter().map(|(id, _)| *id).collect();
            pieces.push((self.decode(&ids)?, part[0].1));
        }
        let mut text = marked(&pieces);
        if shown < example.input_ids.len() {
            text += &format!(" … and {} more tokens", example.input_ids.len() - shown);
        }
        Ok(text)
    }

    /// Which of its row's answers the example shown as number `index` is.
    fn answer(&self, example: &Example, index: usize) -> Option<&'static str> {
        let in_row = index % self.task.examples_per_row();
        self.task.name_of(&example.labels, in_row)
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(match self.tokenizer {
            Some(tokenizer) => tokenizer.decode(ids)?,
            None => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                ids.join(" ")
            }
        })
    }

    fn json(&self) -> Result<Value> {
        let shown = self.shown().into_iter().enumerate();
        let shown = shown.map(|(index, example)| {
            let text = self.decode(&example.input_ids)?;
            let mut shown = json!({
                "row": example.row, "text": text,
                "input_ids": example.input_ids, "labels": example.labels,
            });
            if let Some(answer) = self.answer(&example, index) {
                shown["answer"] = answer.into();
            }
            Ok(shown)
        });
        let examples = self.examples;
        Ok(json!({
            "file": examples.file,
            "shape": examples.shape.to_string(),
            "examples": examples.len(),
            "tokens": examples.tokens(),
            "supervised_tokens": examples.supervised(),
            "skipped": examples.skipped,
            "truncated": examples.truncated,
            "too_long": self.too_long(),
            "length": lengths_json(&self.lengths),
            "left_out": examples.left_out,
            "batch_size": self.batch_size,
            "packed_to": self.packed_to,
            "padding": self.padding,
            "cache_file": examples.cache_file,
            "samples": shown.collect::<Result<Vec<_>>>()?,
        }))
    }
}

/// The number of examples; for rows with two answers, of pairs.
fn counted_examples(task: &dyn Task, examples: &Examples) -> String {
    if task.examples_per_row() > 1 {
        return counted(examples.sequences(), "pair");
    }
    counted(examples.len(), "example")
}

fn quantile(lengths: &[usize], share: f64) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Statistics and a histogram of the examples' lengths.
fn show_lengths(what: &str, lengths: &[usize]) -> Result<()> {
    let [shortest, median, most, longest] = [0.0, 0.5, 0.95, 1.0].map(|s| quantile(lengths, s));
    say(format!(
        "\n{what}: shortest {shortest}, median {median}, 95 % up to {most}, longest {longest}"
    ))?;
    let bars = histogram(lengths, BARS);
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let digits = bars
        .last()
        .map_or(1, |(range, _)| range.end().to_string().len());
    // If all have the same length there is no range, and without a bar no room is needed for one.
    let has_ranges = bars.iter().any(|(range, _)| range.start() < range.end());
    let width = if has_ranges { 2 * digits + 4 } else { digits };
    for (range, count) in bars {
        let bar = "█".repeat((count * WIDTH).div_ceil(most));
        let (first, last) = range.into_inner();
        let lengths = if first == last {
            format!("{first:>digits$}")
        } else {
            format!("{first:>digits$} to {last:>digits$}")
        };
        say(format!("  {lengths:<width$}  {bar} {}", thousands(count)))?;
    }
    Ok(())
}

fn lengths_json(lengths: &[usize]) -> Value {
    let bars = histogram(lengths, BARS).into_iter();
    let bars = bars
        .map(|(range, count)| json!({"from": range.start(), "to": range.end(), "examples": count}));
    json!({
        "min": quantile(lengths, 0.0), "median": quantile(lengths, 0.5),
        "p95": quantile(lengths, 0.95), "max": quantile(lengths, 1.0),
        "histogram": bars.collect::<Vec<_>>(),
    })
}

/// Texts in a row, with the learnt ones marked.
fn marked(pieces: &[(String, bool)]) -> String {
    let (before, after) = if coloured(&std::io::stdout()) {
        ("\u{1b}[32m", "\u{1b}[0m")
    } else {
        ("[", "]")
    };
    let pieces = pieces.iter().map(|(text, learnt)| {
        if *learnt {
            format!("{before}{text}{after}")
        } else {
            text.clone()
        }
    });
    pieces.collect()
}
