//! From the `[data]` table to examples: what the trainer and `peft eval` call.

use crate::batch::Batch;
use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::example::{Example, Limits};
use crate::format::Shape;
use crate::packing::pack;
use crate::part::{Part, Split};
use crate::source::Finder;
use crate::store::Store;
use crate::tokenize::Tokenize;
use crate::tokenizer::Tokenizer;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The examples of one file: tokens that are mapped from the cache, not held in memory.
///
/// Batches are made of *sequences*: an example each, or with packing several.
#[derive(Clone, Debug)]
pub struct Examples {
    /// The file they are from.
    pub file: String,
    /// The shape of its rows.
    pub shape: Shape,
    /// Rows left out: fewer than 2 tokens, or nothing to learn.
    pub skipped: usize,
    /// Rows cut to `max_length`.
    pub truncated: usize,
    /// What batches are padded with: the tokenizer's end of sequence, else 0.
    pub pad_id: u32,
    /// What the width of a batch is rounded up to.
    pub pad_to_multiple_of: Option<usize>,
    /// Where the tokens are.
    pub cache_file: Option<PathBuf>,
    store: Arc<Store>,
    /// The examples of each sequence, where that is not one each.
    sequences: Option<Arc<Vec<Vec<u32>>>>,
    packed: bool,
}

impl Examples {
    /// Examples that are there already; `file` is how errors call where they are from.
    ///
    /// # Errors
    /// If memory does not suffice.
    pub fn new(file: &str, shape: Shape, examples: &[Example]) -> Result<Self> {
        let store = Store::memory(examples).map_err(DataError::io(file.as_ref()))?;
        Ok(Self::from_store(file, shape, store))
    }

    pub(crate) fn from_store(file: &str, shape: Shape, store: Store) -> Self {
        Self {
            file: file.into(),
            shape,
            skipped: 0,
            truncated: 0,
            pad_id: 0,
            pad_to_multiple_of: None,
            cache_file: None,
            store: Arc::new(store),
            sequences: None,
            packed: false,
        }
    }

    /// Reads a file and tokenises it on all cores, or maps what was tokenised before. `spec` is its
    /// path with an optional slice; without a tokenizer only rows of `input_ids` can be read.
    ///
    /// # Errors
    /// See [`DataError`]: whatever is wrong, with the file, the row and the value.
    pub fn load(
        spec: &str,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
    ) -> Result<Self> {
        Self::load_with(spec, config, tokenizer, limits, &|_| Ok(None))
    }

    /// As [`load`](Self::load); what is no file is looked for by `find`.
    ///
    /// # Errors
    /// As [`load`](Self::load), and what `find` says.
    pub fn load_with(
        spec: &str,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        find: Finder<'_>,
    ) -> Result<Self> {
        config.validate(limits.n_positions)?;
        let tokenize = Tokenize {
            config,
            tokenizer,
            limits,
            find,
        };
        Self::prepare(&tokenize, spec, Part::default())
    }

    fn prepare(tokenize: &Tokenize<'_>, spec: &str, part: Part) -> Result<Self> {
        let mut examples = tokenize.examples(spec, part)?;
        let (config, limits) = (tokenize.config, tokenize.limits);
        let eos = tokenize.tokenizer.and_then(Tokenizer::eos_id);
        examples.pad_id = eos
            .filter(|&eos| (eos as usize) < limits.vocab_size)
            .unwrap_or(0);
        examples.pad_to_multiple_of = config.pad_to_multiple_of;
        if config.packing {
            examples = examples.packed(config.max_length.unwrap_or(limits.n_positions));
        }
        examples.check_padding(limits)?;
        tracing::info!(
            "{}: {} examples of shape {}, {} tokens, {} rows cut to max_length",
            examples.file,
            examples.len(),
            examples.shape,
            examples.tokens(),
            examples.truncated,
        );
        Ok(examples)
    }

    /// The same examples with several in a sequence of up to `max` tokens, each as if alone.
    pub fn packed(mut self, max: usize) -> Self {
        let lengths: Vec<usize> = self.store.lengths().collect();
        self.sequences = Some(Arc::new(pack(&lengths, max)));
        self.packed = true;
        self
    }

    /// Padding must not reach beyond the model's positions either.
    fn check_padding(&self, limits: Limits) -> Result<()> {
        let multiple = self.pad_to_multiple_of.unwrap_or(1);
        let longest = self.longest_sequence();
        let width = longest.next_multiple_of(multiple);
        if width <= limits.n_positions {
            return Ok(());
        }
        let problem = format!(
            "is {multiple}, which pads {longest} tokens of {} to {width}, more than the model's n_positions {}",
            self.file, limits.n_positions
        );
        Err(DataError::Setting {
            key: "pad_to_multiple_of",
            problem,
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        match &self.sequences {
            Some(sequences) => sequences.iter().map(Vec::len).sum(),
            None => self.store.len(),
        }
    }

    /// Whether there are none; loading never gives this.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of sequences: what a [`Sampler`](crate::Sampler) draws from.
    pub fn sequences(&self) -> usize {
        match &self.sequences {
            Some(sequences) => sequences.len(),
            None => self.store.len(),
        }
    }

    /// The tokens of each sequence.
    pub fn lengths(&self) -> Vec<usize> {
        let examples: Vec<usize> = self.store.lengths().collect();
        match &self.sequences {
            Some(sequences) => {
                let tokens = |row: &Vec<u32>| row.iter().map(|&i| examples[i as usize]).sum();
                sequences.iter().map(tokens).collect()
            }
            None => examples,
        }
    }

    /// Tokens of all examples.
    pub fn tokens(&self) -> usize {
        self.lengths().into_iter().sum()
    }

    /// Tokens the loss is taken over.
    pub fn supervised_tokens(&self) -> usize {
        match &self.sequences {
            Some(sequences) => {
                let examples = sequences.iter().flatten();
                examples
                    .map(|&i| self.store.supervised_tokens(i as usize))
                    .sum()
            }
            None => {
                let examples = 0..self.store.len();
                examples.map(|i| self.store.supervised_tokens(i)).sum()
            }
        }
    }

    /// Tokens of the longest example.
    pub fn longest(&self) -> usize {
        self.store.lengths().max().unwrap_or(0)
    }

    /// Tokens of the longest sequence.
    pub fn longest_sequence(&self) -> usize {
        self.lengths().into_iter().max().unwrap_or(0)
    }

    /// All examples, in the order of the sequences; without packing that of the file.
    pub fn iter(&self) -> impl Iterator<Item = Example> + '_ {
        (0..self.sequences()).flat_map(|index| self.sequence(index))
    }

    /// The examples of a sequence.
    ///
    /// # Panics
    /// When the index is not below [`sequences`](Self::sequences).
    pub fn sequence(&self, index: usize) -> Vec<Example> {
        match &self.sequences {
            Some(sequences) => {
                let examples = sequences[index].iter();
                examples.map(|&i| self.store.get(i as usize)).collect()
            }
            None => vec![self.store.get(index)],
        }
    }

    /// Some of the sequences.
    ///
    /// # Panics
    /// When the range reaches beyond [`sequences`](Self::sequences).
    pub fn slice(&self, range: Range<usize>) -> Self {
        let part = match &self.sequences {
            Some(sequences) => sequences[range].to_vec(),
            None => range.map(|index| vec![index as u32]).collect(),
        };
        Self {
            sequences: Some(Arc::new(part)),
            ..self.clone()
        }
    }

    /// The sequences at these indices as a batch.
    ///
    /// # Panics
    /// When an index is not below [`sequences`](Self::sequences).
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let rows = indices.iter().map(|&index| self.sequence(index));
        if self.packed {
            let rows: Vec<Vec<Example>> = rows.collect();
            return Batch::pack(&rows, self.pad_id, self.pad_to_multiple_of);
        }
        let examples: Vec<Example> = rows.flatten().collect();
        Batch::collate(&examples, self.pad_id, self.pad_to_multiple_of)
    }
}

/// What to train on, and what to evaluate on.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What to train on.
    pub train: Examples,
    /// What to evaluate on, where the table names something.
    pub validation: Option<Examples>,
}

impl DataSet {
    /// Loads what a `[data]` table names. The seed draws the rows of a `validation_split`.
    ///
    /// # Errors
    /// As [`Examples::load`].
    pub fn load(
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        seed: u64,
    ) -> Result<Self> {
        Self::load_with(config, tokenizer, limits, seed, &|_| Ok(None))
    }

    /// As [`load`](Self::load); what is no file is looked for by `find`.
    ///
    /// # Errors
    /// As [`Examples::load_with`].
    pub fn load_with(
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        seed: u64,
        find: Finder<'_>,
    ) -> Result<Self> {
        config.validate(limits.n_positions)?;
        let tokenize = Tokenize {
            config,
            tokenizer,
            limits,
            find,
        };
        let side = |validation| {
            config.validation_split.map(|size| Split {
                size,
                seed,
                validation,
            })
        };
        let train = Part {
            split: side(false),
            max: config.max_samples,
        };
        let train = Examples::prepare(&tokenize, &config.train, train)?;
        let validation = match (&config.validation, side(true)) {
            (Some(spec), _) => Some((spec, Part::default())),
            (None, None) => None,
            (None, split) => Some((&config.train, Part { split, max: None })),
        };
        let validation = validation.map(|(spec, part)| Examples::prepare(&tokenize, spec, part));
        Ok(Self {
            train,
            validation: validation.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::tiny;

    const LIMITS: Limits = Limits {
        n_positions: 16,
        vocab_size: 270,
    };

    fn load(content: &str, change: impl FnOnce(&mut DataConfig)) -> Result<DataSet> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let mut config = DataConfig::new(path.to_str().unwrap());
        config.cache_dir = Some(dir.path().join("cache"));
        change(&mut config);
        DataSet::load(&config, Some(&tiny()), LIMITS, 42)
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
        assert_eq!((batch.batch, &batch.rows[..]), (2, &[10, 3][..]));
        let text: Vec<u32> = batch.input_ids[..batch.seq]
            .iter()
            .map(|&id| id as u32)
            .collect();
        assert_eq!(tiny().decode(&text).unwrap(), "row 9<|endoftext|>");
        assert_eq!(
            data.train.tokens() - data.train.len(),
            data.train.supervised_tokens()
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
            error.contains("a.jsonl has no usable row: each of its 2 has fewer"),
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
        let error = load(&bad, |_| ()).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl line 31 has a number in `text`"),
            "{error}"
        );
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
        assert_eq!(data.train.batch(&[0]).seq, 8);
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
        assert!(batch.batch == 2 && batch.rows.len() > 2 && batch.segment_ids.is_some());
        let part = data.slice(1..3);
        assert_eq!(part.batch(&[0]), data.batch(&[1]));
        assert_eq!(plain.slice(4..6).batch(&[1]), plain.batch(&[5]));
        assert_eq!(
            plain.slice(4..6).supervised_tokens(),
            plain.batch(&[4, 5]).supervised_tokens()
        );
    }

    #[test]
    fn what_was_tokenised_is_mapped_until_something_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, cache) = (dir.path().join("a.jsonl"), dir.path().join("cache"));
        std::fs::write(&path, numbers(3)).unwrap();
        let mut config = DataConfig::new(path.to_str().unwrap());
        config.cache_dir = Some(cache.clone());
        let load = |config: &DataConfig| {
            let examples = Examples::load(&config.train, config, Some(&tiny()), LIMITS).unwrap();
            let files = std::fs::read_dir(&cache).unwrap().count();
            (examples, files)
        };
        let (first, files) = load(&config);
        assert_eq!(files, 1);
        // Not read again: what is in the cache counts.
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
        // How batches are made changes no tokens.
        config.packing = true;
        config.pad_to_multiple_of = Some(2);
        assert_eq!(load(&config).1, 1);
        config.max_length = Some(4);
        assert_eq!(load(&config).1, 2);
        std::fs::write(&path, numbers(4)).unwrap();
        assert_eq!((load(&config).0.len(), load(&config).1), (4, 3));
        // A file that is not whole is made anew.
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
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"text\": \"one\"}\n{").unwrap();
        let mut config = DataConfig::new(path.to_str().unwrap());
        config.cache_dir = Some(dir.path().join("cache"));
        DataSet::load(&config, Some(&tiny()), LIMITS, 1).unwrap_err();
        assert_eq!(
            std::fs::read_dir(dir.path().join("cache")).unwrap().count(),
            0
        );
        config.cache_dir = Some(path.join("no folder"));
        let error = DataSet::load(&config, Some(&tiny()), LIMITS, 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.jsonl/no folder/") && error.contains("BURN_PEFT_CACHE"),
            "{error}"
        );
    }
}
