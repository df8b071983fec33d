//! Checks that all ranks are about to train the same thing.

use burn_peft_data::Examples;
use toml::Table;

use crate::checkpoint::identity::frozen_hash;
use crate::checkpoint::saved::values;
use crate::configuration::config::TrainConfig;
use crate::error::{Result, TrainError};
use crate::exchange::Exchange;
use crate::objective::Objective;
use crate::run::target::TrainTarget;
use crate::run::train::configuration;

/// The most keys with differences that a message names.
const TOLD: usize = 3;

/// Checks that every rank has the same training file. Only `output_dir` may differ: rank 0 alone
/// writes into it.
///
/// # Errors
/// If a key differs, on every rank: the error names the rank, the key and both values.
pub fn check_same_config(exchange: &dyn Exchange, config: &TrainConfig) -> Result<()> {
    if exchange.size() == 1 {
        return Ok(());
    }
    check_same_table(exchange, &configuration(Some(config), &config.training)?)
}

pub(crate) fn check_same_table(exchange: &dyn Exchange, config: &Table) -> Result<()> {
    let keys = values(config).into_iter();
    let keys = keys.filter(|(key, _)| key != "training.output_dir");
    let keys = keys.map(|(key, value)| (format!("another {key}"), value.to_string()));
    check(exchange, keys.collect())
}

/// Checks that every rank has the same model and data. This reads the frozen weights once; the
/// trained weights are not compared, since rank 0 hands them out.
///
/// # Errors
/// If they differ, on every rank: the error names the rank, and what differs.
pub fn check_same_work<T: TrainTarget>(
    exchange: &dyn Exchange,
    objective: &dyn Objective<T>,
    model: &T,
    train: &Examples,
    validation: Option<&Examples>,
) -> Result<()> {
    if exchange.size() == 1 {
        return Ok(());
    }
    let data = |examples: &Examples| {
        let (rows, tokens, hash) = (examples.len(), examples.tokens(), examples.hash());
        format!("{rows} examples of {tokens} tokens (BLAKE3 {hash})")
    };
    let config = model.config_json().unwrap_or_default();
    let config = format!("BLAKE3 {}", blake3::hash(config.as_bytes()));
    // Only a model in training mode knows which of its weights are frozen.
    let base = frozen_hash(&model.clone().train()).map(|hash| format!("BLAKE3 {hash}"));
    let all = [
        ("another model's config.json", Some(config)),
        ("another model", base),
        ("another reference model", objective.identity()),
        ("other training data", Some(data(train))),
        ("other validation data", validation.map(data)),
    ];
    let all = all.into_iter();
    let all = all.filter_map(|(what, own)| Some((what.to_string(), own?)));
    check(exchange, all.collect())
}

/// Compares what this rank has, each value with its name, with what rank 0 has.
pub(crate) fn check(exchange: &dyn Exchange, own: Vec<(String, String)>) -> Result<()> {
    if exchange.size() == 1 {
        return Ok(());
    }
    let failed = |error: serde_json::Error| TrainError::Exchange(error.to_string());
    let mut first = serde_json::to_vec(&own).map_err(failed)?;
    exchange.broadcast(0, &mut first)?;
    let first: Vec<(String, String)> = serde_json::from_slice(&first).map_err(failed)?;
    let of = |all: &[(String, String)], what: &str| {
        let found = all.iter().find(|(other, _)| other == what);
        found.map_or("nothing".to_string(), |(_, value)| value.clone())
    };
    let missing = first
        .iter()
        .filter(|(what, _)| own.iter().all(|(other, _)| other != what));
    let differences = own.iter().chain(missing).filter_map(|(what, _)| {
        let (here, there) = (of(&own, what), of(&first, what));
        (here != there).then(|| format!("{what} than that of rank 0: {here}, not {there}"))
    });
    let differences: Vec<String> = differences.take(TOLD).collect();
    let said = if differences.is_empty() {
        String::new()
    } else {
        format!("{} has {}", exchange.name(), differences.join("; "))
    };
    // All ranks hear of a difference before any of them continues.
    let said = exchange.gather(said.into_bytes())?;
    match said.iter().find(|said| !said.is_empty()) {
        None => Ok(()),
        Some(said) => Err(TrainError::Exchange(format!(
            "{}; give all ranks the same files",
            String::from_utf8_lossy(said)
        ))),
    }
}
