//! Paths in a training file that were meant relative to its own folder.

use std::path::Path;

use anyhow::Error;
use burn_peft_data::{SlicedPath, TrainSets};
use burn_peft_train::TrainConfig;

/// If a path in a training file does not exist here but beside the file, says so.
pub fn beside(error: Error, file: &Path, config: &TrainConfig) -> Error {
    let keys = [
        ("model", Some(&config.model)),
        ("tokenizer", config.tokenizer.as_ref()),
        ("adapter", config.adapter.as_ref()),
    ];
    let keys = keys.into_iter();
    let keys = keys.filter_map(|(key, path)| Some((key.to_string(), path?.clone())));
    let train = paths("data.train", &config.data.train);
    let validation =
        (config.data.validation.iter()).flat_map(|sets| paths("data.validation", sets));
    for (key, path) in keys.chain(train).chain(validation) {
        let path = SlicedPath::new(&path).path;
        let there = file.with_file_name(path);
        if !path.is_empty() && !Path::new(path).exists() && there.exists() {
            let here = std::env::current_dir().unwrap_or_default();
            let there = there.display();
            let otherwise = if key.contains('[') {
                format!("write path = \"{there}\"")
            } else {
                format!("give --set {key}={there}")
            };
            return error.context(format!(
                "{key} = \"{path}\" is not here, in {}, where paths are looked up, but next to \
                 {}: call peft there, or {otherwise}",
                here.display(),
                file.display(),
            ));
        }
    }
    error
}

/// The paths of the sets of a key, each with its own key.
fn paths(key: &str, named: &TrainSets) -> Vec<(String, String)> {
    match named {
        TrainSets::One(path) => vec![(key.to_string(), path.clone())],
        TrainSets::Several(sets) => {
            let sets = sets.iter().enumerate();
            sets.map(|(index, set)| (format!("{key}[{index}].path"), set.path.clone()))
                .collect()
        }
    }
}
