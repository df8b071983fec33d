//! `peft eval`: measures how well a model predicts a file, or answers its questions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft::parameters::thousands;
use burn_peft_data::{Examples, SlicedPath, folder_and_split};
use burn_peft_models::{CausalLm, LanguageModel};
use burn_peft_train::{
    ByClass, Evaluation, Objective, Reference, TrainConfig, evaluate_shared, limits,
};
use serde_json::{Value, json};

use super::predict::batches::rows_of;
use crate::loading::{
    AnswerArgs, ModelsArgs, RowArgs, at_least_one, check_causal, find_data, find_model,
    find_tokenizer, open_each_as, rows_help, warn_of_space, warn_of_template,
};
use crate::output::{emit, evaluation_bar, say, say_json, table};
use crate::ranks;

mod answers;
mod classes;
mod vectors;

pub use self::classes::task_of;

const EXAMPLE: &str = "\
Examples:
  peft eval --model gpt2 --adapter out --data reviews.jsonl     (with the adapter, and without)
  peft eval --model gpt2 --adapter out-a --adapter out-b --data reviews.jsonl
  peft eval --model gpt2 --data 'reviews.jsonl[:500]' --max-length 512 --json
  peft eval --model MODEL --adapter out --data questions.jsonl --generate

With --generate, the model itself answers the question of every row, always with the most likely token:
in a chat the assistant's last message, otherwise the completion of the prompt. The output is the share
of answers that equal the row's own (exact) and the share that contain it, ignoring case (contained).
If a row has a column contains, a text or a list of texts, one of these is looked for instead.

Rows with two answers (chosen and rejected) give the share of pairs whose better answer has become more
likely than the worse one (rewards/accuracies), and by how much (rewards/margins), compared with the
model alone and with DPO's beta of 0.1. --objective measures them as kto, orpo or cpo does
(docs/preference.md).

For a classifier, a table follows with the precision, recall, F1 and number of rows of each label, or of
each kind of entity. --json has it in by_class, and the number of times that each label is taken for
each other one in confusion.

For an embedding model, rows of two or three texts (anchor and positive, and maybe negative) give recall,
nDCG and MRR: every first text is a query among the other texts of all rows. Rows with a score
(sentence1, sentence2, score) give how well cosines follow it (docs/embeddings.md).

Rows are read as `peft train` reads them. For a folder without a split, the split is test, or else
validation, or else train.";

/// The command line of `peft eval`.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", rows_help()))]
pub struct Args {
    #[command(flatten)]
    model: ModelsArgs,
    /// The rows to predict: a file, a folder, or a data set on the Hub (below)
    #[arg(long, value_name = "FILE")]
    data: String,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    /// Answer the question of every row, and compare the answer with the row's own
    #[arg(long, conflicts_with = "max_length")]
    generate: bool,
    /// The largest number of tokens in an answer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    #[arg(allow_negative_numbers = true, requires = "generate")]
    max_new_tokens: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `peft eval`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    if args.generate {
        return answers::run(&args, &files, device);
    }
    let tokenizer = find_tokenizer(&files, args.rows.tokenizer.as_deref())?;
    let head = vectors::wanted(&args, &files)?;
    let mut models = open_each_as(&files, &args.model, true, head, device)?;
    let classifies = models[0].1.head().classifies();
    // The head of the base alone would be untrained.
    let has_base = !classifies || models.len() == 1 || classes::is_classifier(&files)?;
    if !has_base {
        models.remove(0);
    }
    let data = held_out(&args.data);
    let config = args.answers.config(&args.rows, &data);
    warn_of_template(&config);
    // Of several, the smallest, so that all predict the same tokens.
    let limits = models.iter().map(|(_, model)| limits(model));
    let limits = limits.min_by_key(|limits| limits.max_positions);
    let limits = limits.context("there is no model")?;
    let settings = if models[0].1.head().is_none() {
        vectors::settings(&args, &files, &config)?
    } else if classifies {
        classes::settings(&models[0].1, &data, &config)?
    } else {
        TrainConfig::of_objective(args.rows.objective(&data, &config))
    };
    let kind = settings.objective();
    if kind.task_type == TaskType::CausalLm {
        check_causal(&models[0].1)?;
    }
    let has = models[0].1.head().task;
    ensure!(
        kind.task_type == has,
        "--objective {} measures a model for task_type = {}, and this one is for {has}: name the \
         adapter that was trained with it",
        kind.name,
        kind.task_type
    );
    let task = (kind.task)(&settings);
    let examples = Examples::load_with(
        &data,
        &config,
        tokenizer.as_ref(),
        limits,
        &find_data,
        &*task,
    )?;
    warn_of_space(&examples, tokenizer.as_ref());
    let said = examples.warning.as_deref().unwrap_or_default();
    for line in examples
        .left_out
        .iter()
        .filter(|line| !said.contains(*line))
    {
        tracing::warn!("{}: {line}", examples.file);
    }
    // These figures are not computed from single batches.
    let is_of_rows = ["classify", "tag"].contains(&kind.name);
    let rows = match args.rows.batch_size {
        None if is_of_rows => rows_of(examples.longest()),
        _ => args.rows.batch_rows(),
    };
    let (mut results, mut by_class) = (Vec::new(), Vec::new());
    for (name, model) in &models {
        let label = format!("evaluating {name}");
        // The base alone: an adapter may hold a part of its weights.
        let reference = (kind.reference)(&settings).then(|| Reference::base(&models[0].1));
        let objective = (kind.build)(&settings, reference)?;
        let least = objective.least_batch();
        ensure!(
            rows >= least,
            "--batch-size is {rows}; with --objective {} it must be {least} or more",
            kind.name
        );
        let (result, _) = measure(&*objective, model, &examples, rows, &label)?;
        check_finite(name, &result)?;
        by_class.push(objective.by_class(&result.sums));
        results.push((name, result));
    }
    let json = |index: usize| {
        let mut object = results[index].1.to_json();
        object.extend(by_class[index].iter().flat_map(ByClass::to_json));
        Value::Object(object)
    };
    if args.json && !has_base && results.len() > 1 {
        let each = results.iter().enumerate().map(|(index, (name, _))| {
            let mut object = json(index);
            object["adapter"] = name.as_str().into();
            object
        });
        let object = json!({"adapters": each.collect::<Vec<_>>(), "examples": examples.len()});
        return say_json(&object);
    }
    if args.json {
        let values = results.iter().enumerate();
        let values = values.map(|(index, (name, _))| (*name, json(index)));
        let mut object = json_of(&values.collect::<Vec<_>>(), examples.len());
        object["left_out"] = json!(examples.left_out);
        return say_json(&object);
    }
    let last = by_class.last().and_then(Option::as_ref);
    match &results[..] {
        [(_, result)] => {
            say(result.to_string())?;
            return last.map_or(Ok(()), say_by_class);
        }
        // The same line as without an adapter, which scripts may read.
        [(_, base), (_, result)] if has_base => {
            say(format!("{result}  base: {}", base.numbers()))?;
            return last.map_or(Ok(()), say_by_class);
        }
        _ => {}
    }
    let names: Vec<String> = results.iter().map(|(name, _)| name.to_string()).collect();
    // The base comes last: the adapters above it are compared with it.
    if has_base {
        results.rotate_left(1);
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, result) in &results {
        let metrics = result.metrics();
        let (names, values): (Vec<_>, Vec<_>) = metrics
            .map(|(metric, value)| (metric.name.to_string(), (metric.text)(value)))
            .unzip();
        if rows.is_empty() {
            let unit = format!("{}s", result.measures.unit);
            rows.push([vec!["adapter".into()], names, vec![unit]].concat());
        }
        let count = thousands(result.count());
        rows.push([vec![name.to_string()], values, vec![count]].concat());
    }
    emit(&table(&rows))?;
    for (name, by_class) in names.iter().zip(&by_class) {
        if let Some(by_class) = by_class {
            let name = if name.is_empty() { "base" } else { name };
            say(format!("\n{name}:"))?;
            say_by_class(by_class)?;
        }
    }
    Ok(())
}

/// Prints the figures of each label.
fn say_by_class(by_class: &ByClass) -> Result<()> {
    let heading = [by_class.of, "precision", "recall", "f1", "support"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for one in by_class.classes.iter().chain(&by_class.means) {
        let figures = [one.precision, one.recall, one.f1].map(|value| format!("{value:.4}"));
        let (first, last) = ([one.name.clone()], [thousands(one.support)]);
        rows.push([&first[..], &figures, &last].concat());
    }
    emit(&table(&rows)).map(drop)
}

/// The results of the base; or of one adapter, with the base's in `base`; or of several, in
/// `adapters`.
fn json_of(results: &[(&String, Value)], examples: usize) -> Value {
    let mut object = match results {
        [(_, base)] => base.clone(),
        [(_, base), (_, result)] => {
            let mut object = result.clone();
            object["base"] = base.clone();
            object
        }
        [(_, base), adapters @ ..] => {
            let each = adapters.iter().map(|(name, result)| {
                let mut object = result.clone();
                object["adapter"] = name.as_str().into();
                object
            });
            json!({ "adapters": each.collect::<Vec<_>>(), "base": base })
        }
        [] => json!({}),
    };
    object["examples"] = examples.into();
    object
}

/// For a folder without a split, the split that was not trained on, if there is one.
fn held_out(data: &str) -> String {
    let path = SlicedPath::new(data).path;
    if let Some((folder, None)) = folder_and_split(path) {
        let slice = &data[path.len()..];
        for split in ["test", "validation"] {
            let name = format!("{folder}:{split}");
            if matches!(find_data(&name), Ok(Some(_))) {
                return name + slice;
            }
        }
    }
    data.to_string()
}

/// Checks that the loss is finite, and warns about metrics that are not; `adapter` is the adapter's
/// folder, or empty.
fn check_finite(adapter: &str, result: &Evaluation) -> Result<()> {
    let place = if adapter.is_empty() {
        String::new()
    } else {
        format!("{adapter}: ")
    };
    ensure!(
        result.loss().is_finite(),
        "{place}the loss is {}: the model's weights, or the adapter's, are broken",
        result.loss()
    );
    for (metric, value) in result.metrics().filter(|(_, value)| !value.is_finite()) {
        if value.is_nan() {
            let needs = if ["pearson", "spearman"].contains(&metric.name) {
                ": a correlation needs two rows or more whose labels differ, and scores that differ"
            } else {
                ""
            };
            tracing::warn!(
                "{place}the {} is not defined for these rows (null in JSON){needs}",
                metric.name
            );
            continue;
        }
        tracing::warn!(
            "{place}the {} of a loss of {:.1} is more than a number can hold (null in JSON)",
            metric.name,
            result.loss()
        );
    }
    Ok(())
}

/// The loss over all examples and the time it took, with a progress bar on standard error.
pub fn measure(
    objective: &dyn Objective<LanguageModel>,
    model: &LanguageModel,
    examples: &Examples,
    batch_size: usize,
    label: &str,
) -> Result<(Evaluation, Duration)> {
    let begun = Instant::now();
    let bar = evaluation_bar(label, examples.len());
    let exchange = ranks::current();
    let progress = |done, _| bar.set_position(done as u64);
    let result = evaluate_shared(&*exchange, objective, model, examples, batch_size, progress);
    bar.finish_and_clear();
    Ok((result?, begun.elapsed()))
}
