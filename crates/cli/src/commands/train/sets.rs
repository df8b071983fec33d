//! What a run is trained and evaluated on, in a few lines.

use anyhow::Result;
use burn_peft::parameters::thousands;
use burn_peft_data::{DataConfig, DataSet, Examples, Shape, SlicedPath};

use crate::output::{counted, say};

/// Says how many examples and tokens there are: of each set, and of an epoch of all of them.
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

/// How many examples a set has, of rows of two answers how many rows.
fn counted_examples(set: &Examples, what: &str) -> String {
    if matches!(set.shape, Shape::Preference(..)) && set.rows() < set.len() {
        return counted(set.rows(), &what.replace("example", "pair"));
    }
    counted(set.len(), what)
}

/// How the sets are called: by their names, with the slice of them that is asked for.
pub fn names(train: &Examples, config: &DataConfig) -> Vec<String> {
    let sets = train.sets().iter().zip(config.train.sets());
    sets.map(|(set, named)| with_slice(&set.file, &named.spec()))
        .collect()
}

/// What an epoch has of each of several sets, in a line.
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

/// Says on how many examples is evaluated.
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

/// How the rows of a file are called: with the slice of them that `spec` asks for.
fn with_slice(file: &str, spec: &str) -> String {
    let slice = &spec[SlicedPath::new(spec).path.len()..];
    match file.ends_with(slice) {
        true => file.to_string(),
        false => format!("{file}{slice}"),
    }
}
