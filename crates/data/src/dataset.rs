//! From the `[data]` table to examples: what the trainer calls.

use crate::config::DataConfig;
use crate::error::{DataError, Result, SettingProblem};
use crate::mixture::{StoppingStrategy, counts};
use crate::parts::parts;
use crate::source::Finder;
use crate::source::folder;
use crate::source::part::Part;
use crate::tokenizer::Tokenizer;
use crate::tokens::example::Limits;
use crate::tokens::examples::Examples;
use crate::tokens::lm::Lm;
use crate::tokens::task::Task;
use crate::tokens::tokenize::Tokenize;
use crate::train_set::TrainSet;

/// The examples to train on and those to evaluate on.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What to train on.
    pub train: Examples,
    /// What to evaluate on, if the table names something.
    pub validation: Option<Examples>,
}

impl DataSet {
    /// Whether a `[data]` table names something to evaluate on. Reads no rows.
    pub fn has_validation(config: &DataConfig, find: Finder<'_>) -> bool {
        config.validation.is_some()
            || config.validation_split.is_some()
            || (config.train.sets().iter())
                .any(|set| folder::validation(&set.spec(), find).is_some())
    }

    /// Loads what a `[data]` table names. The seed draws the rows of a `validation_split`. An epoch
    /// of several sets has all of their rows, or, if they have weights, the shares that the weights
    /// give.
    ///
    /// # Errors
    /// As [`Examples::load`].
    pub fn load(
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        seed: u64,
    ) -> Result<Self> {
        Self::load_with(config, tokenizer, limits, seed, &|_| Ok(None), &Lm)
    }

    /// As [`load`](Self::load), but what is not a file is looked up by `find`, and `task` turns
    /// rows into examples.
    ///
    /// # Errors
    /// As [`Examples::load_with`].
    pub fn load_with(
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        seed: u64,
        find: Finder<'_>,
        task: &dyn Task,
    ) -> Result<Self> {
        config.validate(limits)?;
        let sets = config.train.sets();
        let tables: Vec<DataConfig> = sets.iter().map(|set| config.of_set(set)).collect();
        let named = config.validation.iter().flat_map(|named| named.sets());
        let named: Vec<(TrainSet, DataConfig)> = named
            .map(|set| {
                let table = config.of_set(&set);
                (set, table)
            })
            .collect();
        let open = |table| Tokenize::new(table, tokenizer, limits, find, task);
        let parts = parts(config, &tables, seed, find)?;
        let read = |index: usize, part: Part| {
            let examples = open(&tables[index])
                .and_then(|tokenize| Examples::read(&tokenize, &sets[index].spec(), part));
            examples.map_err(|error| of_entry(error, "train", index, &sets[index]))
        };
        let train = parts
            .iter()
            .enumerate()
            .map(|(index, set)| read(index, set.train));
        let train = train.collect::<Result<Vec<_>>>()?;
        let mut train = match config.train.weights().filter(|_| train.len() > 1) {
            Some(weights) => {
                let strategy = config.stopping_strategy.unwrap_or_default();
                mix(train, &open(config)?, &weights, strategy)?
            }
            None => Examples::join(train).batched(&open(config)?)?,
        };
        if let Some(max) = config.max_samples
            && parts.len() > 1
            && parts.iter().any(|set| set.train.max.is_some())
        {
            let said = format!("no more than {max} rows are read of all: data.max_samples = {max}");
            train.left_out.push(said);
        }
        task.check(&train)?;
        let validation: Vec<Examples> = match (&config.validation, config.validation_split) {
            (Some(_), _) => {
                let found = named.iter().enumerate().map(|(index, (set, table))| {
                    let spec = set.spec();
                    let read = |tokenize| Examples::read(&tokenize, &spec, Part::default());
                    let found = open(table).and_then(read);
                    found.map_err(|error| of_entry(error, "validation", index, set))
                });
                found.collect::<Result<_>>()?
            }
            (None, None) => {
                let folders = sets.iter().zip(&tables);
                let found = folders.filter_map(|(set, table)| {
                    let spec = folder::validation(&set.spec(), find)?;
                    let read = |tokenize| Examples::read(&tokenize, &spec, Part::default());
                    Some(open(table).and_then(read))
                });
                found.collect::<Result<_>>()?
            }
            (None, Some(_)) => {
                let held = parts.iter().enumerate();
                let held = held.filter_map(|(index, set)| Some(read(index, set.validation?)));
                held.map(|held| held.map_err(of_held_back))
                    .collect::<Result<_>>()?
            }
        };
        let validation = if validation.is_empty() {
            None
        } else {
            Some(Examples::join(validation).batched(&open(config)?)?)
        };
        Ok(Self { train, validation })
    }
}

/// Mixes sets by weight. Each set is packed by itself, if at all, so that a sequence belongs to one
/// set.
fn mix(
    sets: Vec<Examples>,
    tokenize: &Tokenize<'_>,
    weights: &[f64],
    strategy: StoppingStrategy,
) -> Result<Examples> {
    let sets = sets.into_iter().map(|set| set.batched(tokenize));
    let sets = sets.collect::<Result<Vec<_>>>()?;
    let sequences: Vec<usize> = sets.iter().map(Examples::sequences).collect();
    let Some(per_epoch) = counts(&sequences, weights, strategy) else {
        let problem = SettingProblem::LongEpoch(sequences);
        return Err(DataError::setting("stopping_strategy", problem));
    };
    Ok(Examples::join(sets).mixed(&per_epoch))
}

/// Turns an error about a setting into one about an entry of a list, if the entry has that setting.
fn of_entry(error: DataError, list: &'static str, index: usize, set: &TrainSet) -> DataError {
    let has = |key| match key {
        "template" => set.template.is_some(),
        "completion_field" => set.completion_field.is_some(),
        "text_field" => set.text_field.is_some(),
        "sample_by" => set.sample_by.is_some(),
        _ => false,
    };
    match error {
        DataError::Setting { key, problem } if has(key) => DataError::Set {
            list,
            index,
            key,
            problem: Box::new(problem),
        },
        error => error,
    }
}

/// If all unusable rows are those held back for evaluation, says so.
fn of_held_back(error: DataError) -> DataError {
    match error {
        DataError::Empty { file, problem } => DataError::Empty {
            file: format!("what data.validation_split holds back of {file}"),
            problem,
        },
        error => error,
    }
}

#[cfg(test)]
#[path = "several_tests.rs"]
mod several_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RowProblem;
    use crate::testing::{self, LIMITS, file_of};
    use crate::tokenizer::bpe::tiny;

    fn load(content: &str, change: impl FnOnce(&mut DataConfig)) -> Result<DataSet> {
        let (_dir, mut config) = file_of(content);
        change(&mut config);
        testing::load(&config, &Lm)
    }

    fn numbers(count: usize) -> String {
        (0..count)
            .map(|i| format!("{{\"text\": \"row {i}\"}}\n"))
            .collect()
    }

    fn rows(examples: &Examples) -> Vec<usize> {
        examples.iter().map(|example| example.row).collect()
    }

    #[test]
    fn examples_keep_the_order_of_the_file_and_batch() {
        let data = load(&numbers(50), |_| ()).unwrap();
        assert!(data.validation.is_none());
        assert_eq!(rows(&data.train), (1..=50).collect::<Vec<_>>());
        let batch = data.train.batch(&[9, 2]);
        assert_eq!((batch.len(), &batch.rows[..]), (2, &[10, 3][..]));
        let text: Vec<u32> = batch.input_ids[batch.spans[0].clone()]
            .iter()
            .map(|&id| id as u32)
            .collect();
        assert_eq!(tiny().decode(&text).unwrap(), "row 9<|endoftext|>");
        assert_eq!(
            data.train.tokens() - data.train.len(),
            data.train.supervised()
        );
    }

    #[test]
    fn a_validation_split_is_drawn_by_the_seed() {
        let split = |value| load(&numbers(20), |c| c.validation_split = Some(value));
        let data = split(0.25).unwrap();
        let (train, validation) = (rows(&data.train), rows(&data.validation.unwrap()));
        assert_eq!((train.len(), validation.len()), (15, 5));
        assert!(train.is_sorted() && validation.is_sorted());
        assert!(validation.iter().all(|row| !train.contains(row)));
        assert_eq!(rows(&split(5.0).unwrap().train), train);

        let error = split(20.0).unwrap_err().to_string();
        assert!(
            error.starts_with("data.validation_split is 20, which takes 20 of the 20"),
            "{error}"
        );
        let data = load(&numbers(20), |c| c.max_samples = Some(3)).unwrap();
        assert_eq!(rows(&data.train), [1, 2, 3]);
    }

    #[test]
    fn of_rows_that_are_held_back_it_is_said_that_they_are() {
        let hold_one = |content: &str| load(content, |c| c.validation_split = Some(1.0));
        let content = numbers(10);
        let held = rows(&hold_one(&content).unwrap().validation.unwrap())[0];
        let content = content.replace(&format!("row {}", held - 1), "");
        let error = hold_one(&content).unwrap_err().to_string();
        let said = "what data.validation_split holds back of ";
        assert!(
            error.starts_with(said) && error.contains("has no usable row: 1 of 1 rows dropped"),
            "{error}"
        );
    }

    #[test]
    fn rows_without_anything_to_learn_are_counted() {
        let data = load(
            "{\"text\": \"the\"}\n{\"text\": \"\"}\n{\"text\": \"\"}",
            |_| (),
        )
        .unwrap();
        assert_eq!((data.train.len(), data.train.skipped), (1, 2));
        let error = load("{\"text\": \"\"}\n{\"text\": \"\"}", |_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.jsonl has no usable row: 2 of 2 rows dropped: fewer than 2"),
            "{error}"
        );
    }

    #[test]
    fn the_first_bad_row_is_the_one_reported() {
        let bad = format!(
            "{}{{\"text\": 1}}\n{}{{\"text\": 2}}\n",
            numbers(30),
            numbers(30)
        );
        let error = load(&bad, |_| ()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("a.jsonl line 31 has a number in `text`"),
            "{said}"
        );
        // A caller can tell it from other errors.
        let DataError::Row { problem, .. } = error else {
            panic!("{said}");
        };
        let (found, column) = ("a number", "text".to_string());
        assert_eq!(problem, RowProblem::NoText { found, column });
    }

    #[test]
    fn padding_stays_within_the_positions() {
        let error = load(&numbers(3), |c| c.pad_to_multiple_of = Some(32)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("to 32, more than the model's n_positions 16"),
            "{error}"
        );
        let data = load(&numbers(3), |c| c.pad_to_multiple_of = Some(8)).unwrap();
        assert_eq!(data.train.batch(&[0]).width, 8);
    }

    #[test]
    fn packed_rows_hold_every_example_once() {
        let data = load(&numbers(50), |c| c.packing = true).unwrap().train;
        let plain = load(&numbers(50), |_| ()).unwrap().train;
        assert!(data.sequences() < 30, "{}", data.sequences());
        assert_eq!((data.len(), data.tokens()), (50, plain.tokens()));
        assert!(data.longest_sequence() <= 16 && data.longest() < 10);
        let mut seen = rows(&data);
        seen.sort_unstable();
        assert_eq!(seen, (1..=50).collect::<Vec<_>>());
        let batch = data.batch(&[0, 1]);
        assert!(batch.len() == 2 && batch.rows.len() > 2 && batch.packed.is_some());
        let part = data.slice(1..3);
        assert_eq!(part.batch(&[0]), data.batch(&[1]));
        assert_eq!(plain.slice(4..6).batch(&[1]), plain.batch(&[5]));
        assert_eq!(
            plain.slice(4..6).supervised(),
            plain
                .batch(&[4, 5])
                .example_labels()
                .map(|labels| Lm.supervised(labels))
                .sum::<usize>()
        );
    }

    #[test]
    fn what_was_tokenised_is_mapped_until_something_changes() {
        let (dir, mut config) = file_of(&numbers(3));
        let (path, cache) = (dir.path().join("a.jsonl"), dir.path().join("cache"));
        let load = |config: &DataConfig| {
            let examples =
                Examples::load(path.to_str().unwrap(), config, Some(&tiny()), LIMITS).unwrap();
            let files = std::fs::read_dir(&cache).unwrap().count();
            (examples, files)
        };
        let (first, files) = load(&config);
        assert_eq!(files, 1);
        // Nothing is read again: the cache has the counts.
        let file = first.cache_file.clone().unwrap();
        let changed = std::fs::metadata(&file).unwrap().modified().unwrap();
        let (again, files) = load(&config);
        assert_eq!(
            (rows(&again), files, again.shape),
            (rows(&first), 1, first.shape)
        );
        assert_eq!(
            std::fs::metadata(&file).unwrap().modified().unwrap(),
            changed
        );
        // How batches are made does not change the tokens.
        config.packing = true;
        config.pad_to_multiple_of = Some(2);
        assert_eq!(load(&config).1, 1);
        config.max_length = Some(4);
        assert_eq!(load(&config).1, 2);
        std::fs::write(&path, numbers(4)).unwrap();
        assert_eq!((load(&config).0.len(), load(&config).1), (4, 3));
        // An incomplete file is replaced.
        config.max_length = None;
        let (whole, _) = load(&config);
        let file = whole.cache_file.clone().unwrap();
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(load(&config).0.len(), 4);
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }

    #[test]
    fn an_error_leaves_nothing_in_the_cache() {
        let (dir, mut config) = file_of("{\"text\": \"one\"}\n{");
        testing::load(&config, &Lm).unwrap_err();
        assert_eq!(
            std::fs::read_dir(dir.path().join("cache")).unwrap().count(),
            0
        );
        config.cache_dir = Some(dir.path().join("a.jsonl/no folder"));
        let error = testing::load(&config, &Lm).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl/no folder/") && error.contains("BURN_PEFT_CACHE"),
            "{error}"
        );
    }
}
