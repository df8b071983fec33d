//! The numbers that may change only on purpose.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Numbers by model and name.
pub type Numbers = BTreeMap<String, BTreeMap<String, usize>>;

const HEAD: &str = "\
# What a step asks of a software GPU. benches/launches/run, which .ci/run starts, counts it and compares
# it with this file. If a number changes on purpose, write the file again: benches/launches/run --update
";

pub fn write(path: &Path, found: &Numbers) -> Result<()> {
    let text = format!("{HEAD}\n{}", toml::to_string(found)?);
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// The numbers that differ from those of the file, in words.
pub fn differences(path: &Path, found: &Numbers) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let expected: Numbers = toml::from_str(&text)?;
    let mut differences = Vec::new();
    for (model, numbers) in found {
        for (name, found) in numbers {
            let expected = expected.get(model).and_then(|numbers| numbers.get(name));
            if expected != Some(found) {
                let expected = expected.map_or("nothing".into(), ToString::to_string);
                differences.push(format!("{model}: {name} is {found}, expected {expected}"));
            }
        }
    }
    Ok(differences)
}
