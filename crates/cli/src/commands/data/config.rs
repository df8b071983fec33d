//! `peft data CONFIG.toml`: shows the data sets of a training file.

use std::path::Path;

use anyhow::{Result, bail};
use burn_peft::parameters::thousands;
use burn_peft_data::{DataConfig, DataSet, Examples, Padding};
use burn_peft_train::TrainConfig;
use serde_json::{Value, json};

use super::{Args, Report, SEED, show_lengths, tokenizer};
use crate::commands::train::{beside, epoch_of, names, settle_labels, show_validation};
use crate::loading::{find_data, find_model, warn_of_space, warn_of_template};
use crate::output::{counted, say, say_json, table};

/// Whether an argument of `peft data` is a training file.
pub fn is_config(file: &str) -> bool {
    let path = Path::new(file);
    path.extension().is_some_and(|end| end == "toml") && path.is_file()
}

/// Runs `peft data` on a training file.
pub fn run(mut args: Args) -> Result<()> {
    let file = Path::new(&args.file);
    let (rows, answers) = (&args.rows, &args.answers);
    for (option, is_set) in [
        ("max-length", rows.max_length.is_some()),
        ("template", rows.template.is_some()),
        ("text-field", rows.text_field.is_some()),
        ("completion-field", answers.completion_field.is_some()),
        ("label-field", rows.label_field.is_some()),
        ("train-on", answers.train_on.is_some()),
        ("objective", rows.objective.is_some()),
    ] {
        if is_set {
            let table = if option == "objective" {
                "training"
            } else {
                "data"
            };
            let key = option.replace('-', "_");
            bail!(
                "--{option} is for a file of rows, and {} is a training file: it says {table}.{key}",
                args.file
            );
        }
    }
    if args.json {
        bail!(
            "--json prints the rows of a file of rows, and {} is a training file: --summary prints what it \
             makes of its data sets",
            args.file
        );
    }
    let mut config = TrainConfig::from_file(file, &[""; 0])?;
    args.model.get_or_insert_with(|| config.model.clone());
    if args.rows.tokenizer.is_none() {
        args.rows.tokenizer.clone_from(&config.tokenizer);
    }
    warn_of_template(&config.data);
    let tokenized = tokenizer(&args).map_err(|error| beside(error, file, &config));
    let (tokenizer, limits) = tokenized?;
    let files = args.model.as_deref().map(find_model).transpose();
    let settled = files.and_then(|files| settle_labels(&mut config, files.as_ref(), file));
    settled.map_err(|error| beside(error, file, &config))?;
    let seed = config.training.seed;
    let task = (config.objective().task)(&config);
    let data = DataSet::load_with(
        &config.data,
        tokenizer.as_ref(),
        limits,
        seed,
        &find_data,
        &*task,
    )
    .map_err(|error| beside(error.into(), file, &config))?;
    warn_of_space(&data.train, tokenizer.as_ref());
    let sets = sets(&data.train, &config.data);
    if args.summary {
        return say_json(&to_json(&args.file, &data, &config.data, &sets));
    }
    show(&data, &config.data, &sets)?;
    let lengths = data.train.lengths();
    let batch_size = config.training.per_device_train_batch_size;
    let packed_to = config.data.max_length.unwrap_or(limits.default_length());
    let thing = if config.data.packing {
        "packed row"
    } else {
        "example"
    };
    show_lengths(&format!("tokens of {} {thing}", article(thing)), &lengths)?;
    let report = Report {
        task: &*task,
        examples: &data.train,
        padding: Padding::count(&lengths, batch_size, packed_to, SEED)?,
        lengths,
        limits,
        packed_to,
        batch_size,
        tokenizer: tokenizer.as_ref(),
    };
    if !config.data.packing {
        report.show_padding()?;
    }
    say("")?;
    for (set, of) in data.train.sets().iter().zip(&sets) {
        for (index, example) in set
            .sequence(0)
            .iter()
            .take(task.examples_per_row())
            .enumerate()
        {
            let text = report.render(example)?.replace('\n', "\n  ");
            let answer = report.answer(example, index);
            let answer = answer.map_or_else(String::new, |answer| format!(", {answer}"));
            say(format!(
                "{} row {}{answer}:\n  {text}",
                of.name, example.row
            ))?;
        }
    }
    Ok(())
}

fn article(thing: &str) -> &'static str {
    if thing.starts_with('e') { "an" } else { "a" }
}

/// A set, and how many of its rows an epoch has.
struct Set<'a> {
    name: String,
    weight: Option<f64>,
    examples: &'a Examples,
    per_epoch: usize,
    tokens: usize,
    supervised: usize,
}

fn sets<'a>(train: &'a Examples, config: &DataConfig) -> Vec<Set<'a>> {
    let names = names(train, config).into_iter();
    let all = train
        .sets()
        .iter()
        .map(Examples::sequences)
        .collect::<Vec<_>>();
    let mixed = train
        .mixture()
        .map(|mixture| mixture.per_epoch().collect::<Vec<_>>());
    let weighted = mixed.is_some();
    let per_epoch = mixed.unwrap_or(all);
    let sets = names
        .zip(config.train.sets())
        .zip(train.sets())
        .zip(per_epoch);
    let sets = sets.map(|(((name, set), examples), per_epoch)| Set {
        name,
        weight: weighted.then_some(set.weight.unwrap_or(1.0)),
        examples,
        per_epoch,
        tokens: examples.share(examples.tokens(), per_epoch),
        supervised: examples.share(examples.supervised(), per_epoch),
    });
    sets.collect()
}

fn show(data: &DataSet, config: &DataConfig, sets: &[Set<'_>]) -> Result<()> {
    let train = &data.train;
    for set in sets {
        say(format!("{}: {}", set.name, set.examples.shape))?;
        for line in &set.examples.left_out {
            say(format!("  {line}"))?;
        }
    }
    let share = |part: usize, of: usize| format!("{:.1} %", 100.0 * part as f64 / of.max(1) as f64);
    let all = train.tokens_per_epoch();
    let thing = if config.packing {
        "packed rows"
    } else {
        "examples"
    };
    let thing = format!("{thing}/epoch");
    let head = [
        "set",
        "weight",
        "examples",
        "tokens",
        "learnt",
        &thing,
        "tokens/epoch",
        "share",
    ];
    let head = head.map(ToString::to_string);
    let row = |set: &Set<'_>| {
        [
            set.name.clone(),
            set.weight
                .map_or_else(|| "–".into(), |weight| weight.to_string()),
            thousands(set.examples.len()),
            thousands(set.examples.tokens()),
            share(set.examples.supervised(), set.examples.tokens()),
            thousands(set.per_epoch),
            thousands(set.tokens),
            share(set.tokens, all),
        ]
    };
    let total = [
        "all".to_string(),
        String::new(),
        thousands(train.len()),
        thousands(train.tokens()),
        share(train.supervised(), train.tokens()),
        thousands(train.sequences_per_epoch()),
        thousands(all),
        share(all, all),
    ];
    let mut rows = vec![head];
    rows.extend(sets.iter().map(row));
    if sets.len() > 1 {
        rows.push(total);
    }
    say(format!("\n{}", table(&rows).trim_end()))?;
    if sets.len() > 1 {
        say(format!("\n{}", epoch_of(train, config)))?;
        for line in &train.left_out {
            say(format!("  {line}"))?;
        }
    }
    let learnt = counted(train.supervised_per_epoch(), "token");
    let about = if train.mixture().is_some() {
        "about "
    } else {
        ""
    };
    say(format!("learnt in an epoch: {about}{learnt}"))?;
    show_validation(data, config)
}

fn to_json(file: &str, data: &DataSet, config: &DataConfig, sets: &[Set<'_>]) -> Value {
    let train = &data.train;
    let of = |examples: &Examples| {
        json!({
            "examples": examples.len(),
            "tokens": examples.tokens(),
            "supervised_tokens": examples.supervised(),
            "skipped": examples.skipped,
            "truncated": examples.truncated,
            "left_out": examples.left_out,
            "warning": examples.warning,
        })
    };
    let each = sets.iter().map(|set| {
        let mut object = of(set.examples);
        object["file"] = json!(set.name);
        object["shape"] = json!(set.examples.shape.to_string());
        object["weight"] = json!(set.weight);
        object["epoch"] = json!({
            "sequences": set.per_epoch,
            "tokens": set.tokens,
            "supervised_tokens": set.supervised,
        });
        object
    });
    let mut object = of(train);
    object["file"] = json!(file);
    object["sets"] = each.collect();
    object["stopping_strategy"] = match train.mixture() {
        Some(_) => json!(config.stopping_strategy.unwrap_or_default()),
        None => Value::Null,
    };
    object["epoch"] = json!({
        "sequences": train.sequences_per_epoch(),
        "tokens": train.tokens_per_epoch(),
        "supervised_tokens": train.supervised_per_epoch(),
    });
    object["validation"] = data.validation.as_ref().map_or(Value::Null, of);
    object
}
