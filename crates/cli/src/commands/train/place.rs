//! Paths in a training file that were meant from its own folder.

use std::path::Path;

use anyhow::Error;
use burn_peft_data::SlicedPath;
use burn_peft_train::TrainConfig;

/// Says where a path of a training file lies, if it is not here but beside the file.
pub fn beside(error: Error, file: &Path, config: &TrainConfig) -> Error {
    let data = &config.data;
    let keys = [
        ("model", Some(&config.model)),
        ("tokenizer", config.tokenizer.as_ref()),
        ("adapter", config.adapter.as_ref()),
    ];
    let keys = keys
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?.clone())));
    let sets = data.train.sets().into_iter();
    let sets = sets.map(|set| ("data.train", set.path));
    let validation = data
        .validation
        .clone()
        .map(|path| ("data.validation", path));
    for (key, path) in keys.chain(sets).chain(validation) {
        let path = SlicedPath::new(&path).path;
        let there = file.with_file_name(path);
        if !path.is_empty() && !Path::new(path).exists() && there.exists() {
            let here = std::env::current_dir().unwrap_or_default();
            return error.context(format!(
                "{key} = \"{path}\" is not here, in {}, from where paths are seen, but beside {}: \
                 call peft there, or give --set {key}={}",
                here.display(),
                file.display(),
                there.display()
            ));
        }
    }
    error
}
