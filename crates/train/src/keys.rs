//! Which keys there are: for errors that help with a misspelt or an unsupported one.

use toml::Table;

/// What is wrong with the first key of a table that is not `known`, if any is.
///
/// `unsupported` are keys that exist elsewhere (in transformers) and do nothing here yet.
pub(crate) fn unknown_key(
    table: &Table,
    prefix: &str,
    known: &[&str],
    unsupported: &[&str],
) -> Option<String> {
    let key = table.keys().find(|key| !known.contains(&key.as_str()))?;
    if unsupported.contains(&key.as_str()) {
        return Some(format!(
            "{prefix}{key} is a key of transformers' TrainingArguments that this trainer does \
             not support yet; remove it"
        ));
    }
    let near = nearest(key, known.iter().chain(unsupported).copied());
    Some(match near.is_empty() {
        false => format!("{prefix}{key} is no known key; did you mean {}?", near.join(" or ")),
        true => format!("{prefix}{key} is no known key; known are {}", known.join(", ")),
    })
}

/// The names that a misspelt one may have meant, the nearest first; three at most.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<_> = names
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len() / 4 || candidate.starts_with(name)
        })
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_unsupported_and_unknown_keys_are_told_apart() {
        let known = ["learning_rate", "max_steps", "seed"];
        let error = |text: &str| {
            let table = text.parse::<Table>().unwrap();
            unknown_key(&table, "training.", &known, &["bf16"])
        };
        assert_eq!(error("seed = 1\nmax_steps = 2"), None);
        assert_eq!(
            error("learnin_rate = 1").unwrap(),
            "training.learnin_rate is no known key; did you mean learning_rate?"
        );
        assert!(error("bf16 = true").unwrap().contains("does not support yet"));
        assert_eq!(
            error("zzz = 1").unwrap(),
            "training.zzz is no known key; known are learning_rate, max_steps, seed"
        );
    }
}
