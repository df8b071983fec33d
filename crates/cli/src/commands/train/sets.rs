//! A summary of the training and evaluation data.

use anyhow::Result;
use burn_peft::parameters::thousands;
use burn_peft_data::{DataConfig, DataSet, Examples, Shape, SlicedPath};

use crate::output::{counted, say};

/// Prints the numbers of examples and tokens: of each set, and of an epoch of all of them.
pub fn show_data(data: &DataSet, config: &DataConfig) -> Result<()> {
    let train = &data.train;
    for (set, name) in train.sets().iter().zip(names(train, config)) {
        let tokens = counted(set.tokens(), "token");
        let examples = counted_examples(set, "example");
        say(format!("{name}: {examples}, {tokens}"))?;
        for line in &set.left_out {
            say(format!("  {line}"))?;
        }
    }
    if train.sets().len() > 1 {
        let epoch = epoch_of(train, config);
        let tokens = counted(train.tokens_per_epoch(), "token");
        let about = if train.mixture().is_some() {
            "about "
        } else {
            ""
        };
        say(format!("{epoch}, {about}{tokens}"))?;
        for line in &train.left_out {
            say(format!("  {line}"))?;
        }
    }
    show_validation(data, config)
}

/// The number of examples in a set; for rows with two answers, the number of rows.
fn counted_examples(set: &Examples, what: &str) -> String {
    if matches!(set.shape, Shape::Preference(..)) && set.rows() < set.len() {
        return counted(set.rows(), &what.replace("example", "pair"));
    }
    counted(set.len(), what)
}

/// The names of the sets, with the slices that are used.
pub fn names(train: &Examples, config: &DataConfig) -> Vec<String> {
    let sets = train.sets().iter().zip(config.train.sets());
    sets.map(|(set, named)| with_slice(&set.file, &named.spec()))
        .collect()
}

/// How much of each of several sets an epoch has, in a line.
pub fn epoch_of(train: &Examples, config: &DataConfig) -> String {
    let thing = if config.packing {
        "packed row"
    } else {
        "example"
    };
    let all = counted(train.sequences_per_epoch(), thing);
    let Some(mixture) = train.mixture() else {
        return format!("together: {all}, each once in an epoch");
    };
    let sets = mixture.per_epoch().zip(names(train, config));
    let sets: Vec<String> = sets
        .map(|(count, name)| format!("{} of {name}", thousands(count)))
        .collect();
    let strategy = config.stopping_strategy.unwrap_or_default();
    format!(
        "mixed by weight ({strategy}), an epoch is {all}: {}",
        sets.join(", ")
    )
}

/// Prints the number of evaluation examples.
pub fn show_validation(data: &DataSet, config: &DataConfig) -> Result<()> {
    let Some(validation) = &data.validation else {
        return Ok(());
    };
    let is_drawn = config.validation_split.is_some();
    let sets = match &config.validation {
        Some(sets) => sets.sets(),
        None if is_drawn => config.train.sets(),
        None => Vec::new(),
    };
    let spec = match &sets[..] {
        [set] => set.spec(),
        _ => String::new(),
    };
    let (what, drawn) = if is_drawn {
        (
            "other example",
            ", drawn by the seed (data.validation_split)",
        )
    } else {
        ("example", "")
    };
    say(format!(
        "{}: {} to evaluate on{drawn}",
        with_slice(&validation.file, &spec),
        counted_examples(validation, what)
    ))?;
    let sets = validation.sets().iter().flat_map(|set| &set.left_out);
    let all = validation
        .left_out
        .iter()
        .filter(|_| validation.sets().len() > 1);
    for line in sets.chain(all) {
        say(format!("  validation: {line}"))?;
    }
    Ok(())
}

/// The name of a file's rows, with the slice that `spec` asks for.
fn with_slice(file: &str, spec: &str) -> String {
    let slice = &spec[SlicedPath::new(spec).path.len()..];
    if file.ends_with(slice) {
        file.to_string()
    } else {
        format!("{file}{slice}")
    }
}
