//! The examples of one or several files, and the sequences that batches are made of.

use crate::batches::batch::Batch;
use crate::batches::packing::pack;
use crate::config::DataConfig;
use crate::error::{DataError, Result, SettingProblem};
use crate::format::Shape;
use crate::mixture::Mixture;
use crate::source::Finder;
use crate::source::part::Part;
use crate::tokenizer::Tokenizer;
use crate::tokens::example::{Example, Limits};
use crate::tokens::lm::Lm;
use crate::tokens::store::Store;
use crate::tokens::stores::Stores;
use crate::tokens::task::Task;
use crate::tokens::tokenize::Tokenize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The examples of one or several files: tokens that are mapped from the cache, not held in memory.
///
/// Batches are made of *sequences*: one example each, or several with packing.
#[derive(Clone, Debug)]
pub struct Examples {
    /// The file that they come from; for several files, all their names.
    pub file: String,
    /// The shape of its rows; for several files, of the first one's.
    pub shape: Shape,
    /// Rows without an example; [`left_out`](Self::left_out) says why.
    pub skipped: usize,
    /// Rows cut to `max_length`.
    pub truncated: usize,
    /// What was cut and dropped: how many rows, and by which setting, in words; also the length
    /// that rows are packed to, if no setting gives it.
    pub left_out: Vec<String>,
    /// The remark about rows without an example, if those are more than a tenth.
    pub warning: Option<String>,
    /// The padding token: the tokenizer's end-of-sequence token, else 0.
    pub pad_id: u32,
    /// The multiple that the width of a batch is rounded up to.
    pub pad_to_multiple_of: Option<usize>,
    /// Where the tokens are stored.
    pub cache_file: Option<PathBuf>,
    pub(super) store: Arc<Stores>,
    /// The examples of each sequence, unless each has one.
    pub(super) sequences: Option<Arc<Vec<Vec<u32>>>>,
    pub(super) packed: bool,
    /// The examples of each file, if there are several.
    pub(super) sets: Arc<Vec<Self>>,
    /// How many of each an epoch has, if not all.
    pub(super) mixture: Option<Arc<Mixture>>,
}

impl Examples {
    /// Wraps examples of a language model that exist already; `file` is their origin in errors.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(file: &str, shape: Shape, examples: &[Example]) -> Result<Self> {
        Self::of_task(&Lm, file, shape, examples)
    }

    /// As [`new`](Self::new), for any task.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_task(
        task: &dyn Task,
        file: &str,
        shape: Shape,
        examples: &[Example],
    ) -> Result<Self> {
        let store = Store::memory(examples, |labels| task.supervised(labels))
            .map_err(DataError::io(file.as_ref()))?;
        Ok(Self::from_store(file, shape, store).together(task.examples_per_row()))
    }

    fn from_store(file: &str, shape: Shape, store: Store) -> Self {
        Self {
            file: file.into(),
            shape,
            skipped: 0,
            truncated: 0,
            left_out: Vec::new(),
            warning: None,
            pad_id: 0,
            pad_to_multiple_of: None,
            cache_file: None,
            store: Arc::new(Stores::one(store)),
            sequences: None,
            packed: false,
            sets: Arc::default(),
            mixture: None,
        }
    }

    /// The same with this many consecutive examples in each sequence.
    fn together(mut self, examples: usize) -> Self {
        if examples > 1 {
            let all: Vec<u32> = (0..self.store.len() as u32).collect();
            let sequences = all.chunks(examples).map(<[u32]>::to_vec);
            self.sequences = Some(Arc::new(sequences.collect()));
        }
        self
    }

    /// Tokenises a file on all cores, or maps what was tokenised before. `spec` is its path with an
    /// optional slice. Without a tokenizer only rows of `input_ids` can be read.
    ///
    /// # Errors
    /// See [`DataError`]: any problem, with the file, the row and the value.
    pub fn load(
        spec: &str,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
    ) -> Result<Self> {
        Self::load_with(spec, config, tokenizer, limits, &|_| Ok(None), &Lm)
    }

    /// As [`load`](Self::load), but a name that is not a file is looked up by `find`, and `task`
    /// turns rows into examples.
    ///
    /// # Errors
    /// As [`load`](Self::load), and the errors of `find`.
    pub fn load_with(
        spec: &str,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        find: Finder<'_>,
        task: &dyn Task,
    ) -> Result<Self> {
        let tokenize = Tokenize::new(config, tokenizer, limits, find, task)?;
        Self::prepare(&tokenize, spec, Part::default())
    }

    pub(crate) fn prepare(tokenize: &Tokenize<'_>, spec: &str, part: Part) -> Result<Self> {
        Self::read(tokenize, spec, part)?.batched(tokenize)
    }

    /// The examples of a part of a file, each row a sequence.
    pub(crate) fn read(tokenize: &Tokenize<'_>, spec: &str, part: Part) -> Result<Self> {
        let tokens = tokenize.tokens(spec, part)?;
        let mut examples = Self::from_store(&tokens.file, tokens.shape, tokens.store);
        (examples.skipped, examples.truncated) = (tokens.skipped, tokens.truncated);
        (examples.left_out, examples.warning) = (tokens.left_out, tokens.warning);
        examples.cache_file = Some(tokens.cache_file);
        let eos = tokenize.tokenizer.and_then(Tokenizer::eos_id);
        examples.pad_id = eos
            .filter(|&eos| (eos as usize) < tokenize.limits.vocab_size)
            .unwrap_or(0);
        examples.pad_to_multiple_of = tokenize.config.pad_to_multiple_of;
        examples = examples.together(tokenize.task.examples_per_row());
        tracing::info!(
            "{}: {} examples of shape {}, {} tokens",
            examples.file,
            examples.len(),
            examples.shape,
            examples.tokens(),
        );
        Ok(examples)
    }

    /// The same as the sequences that batches are made of, packed if the table says so.
    pub(crate) fn batched(self, tokenize: &Tokenize<'_>) -> Result<Self> {
        let (config, limits) = (tokenize.config, tokenize.limits);
        let per_row = tokenize.task.examples_per_row();
        let mut examples = self;
        if config.packing && per_row > 1 {
            return Err(DataError::setting(
                "packing",
                SettingProblem::Packing(per_row),
            ));
        }
        if config.packing && !tokenize.task.packs() {
            return Err(DataError::setting("packing", SettingProblem::NoPacking));
        }
        if config.packing {
            let max = config.max_length.unwrap_or(limits.default_length());
            examples = examples.packed(max);
            if config.max_length.is_none() {
                let said = format!("packed into rows of data.max_length = {max}, its default here");
                examples.left_out.push(said);
            }
        }
        examples.check_padding(limits)?;
        Ok(examples)
    }

    /// The same examples, several in each sequence of up to `max` tokens; each is learnt as if
    /// alone.
    pub fn packed(mut self, max: usize) -> Self {
        self.mixture = None;
        let lengths: Vec<usize> = self.store.lengths().collect();
        self.sequences = Some(Arc::new(pack(&lengths, max)));
        self.packed = true;
        self
    }

    /// Padding must not reach beyond the model's positions either.
    fn check_padding(&self, limits: Limits) -> Result<()> {
        let multiple = self.pad_to_multiple_of.unwrap_or(1);
        // The examples of a sequence are separate rows, unless they are packed.
        let longest = if self.packed {
            self.longest_sequence()
        } else {
            self.longest()
        };
        let width = longest.next_multiple_of(multiple);
        if longest > limits.max_positions && !limits.has_last_position {
            tracing::warn!(
                "{}: a sequence has {longest} tokens, more than {}, for which it was trained: what \
                 it learns there may be poor; data.max_length cuts longer ones",
                self.file,
                limits.positions()
            );
        }
        if !limits.forbid(width) {
            return Ok(());
        }
        let problem = SettingProblem::Padding {
            multiple,
            longest,
            file: self.file.clone(),
            width,
            limits,
        };
        Err(DataError::setting("pad_to_multiple_of", problem))
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        match &self.sequences {
            Some(sequences) => sequences.iter().map(Vec::len).sum(),
            None => self.store.len(),
        }
    }

    /// The number of rows with examples: for pairs of answers, half the number of examples.
    pub fn rows(&self) -> usize {
        if self.packed {
            self.len()
        } else {
            self.sequences()
        }
    }

    /// Whether a sequence holds several examples.
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// The number of examples in a sequence.
    pub fn examples_in(&self, sequence: usize) -> usize {
        let sequences = self.sequences.as_ref();
        sequences.map_or(1, |sequences| sequences[sequence].len())
    }

    /// Whether there are no examples; a loaded file always has some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of sequences, which a [`Sampler`](crate::Sampler) draws from.
    pub fn sequences(&self) -> usize {
        match &self.sequences {
            Some(sequences) => sequences.len(),
            None => self.store.len(),
        }
    }

    /// The length of each sequence in tokens.
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

    /// The number of tokens in all examples.
    pub fn tokens(&self) -> usize {
        self.lengths().into_iter().sum()
    }

    /// The number of labels that count, in all examples: for a language model, the tokens that have
    /// a loss.
    pub fn supervised(&self) -> usize {
        match &self.sequences {
            Some(sequences) => {
                let examples = sequences.iter().flatten();
                examples.map(|&i| self.store.supervised(i as usize)).sum()
            }
            None => {
                let examples = 0..self.store.len();
                examples.map(|i| self.store.supervised(i)).sum()
            }
        }
    }

    /// The length of the longest example in tokens.
    pub fn longest(&self) -> usize {
        self.store.lengths().max().unwrap_or(0)
    }

    /// The length of the longest sequence in tokens.
    pub fn longest_sequence(&self) -> usize {
        self.lengths().into_iter().max().unwrap_or(0)
    }

    /// All examples, in the order of the sequences; without packing, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = Example> + '_ {
        (0..self.sequences()).flat_map(|index| self.sequence(index))
    }

    /// The examples of a sequence.
    ///
    /// # Panics
    /// If the index is not below [`sequences`](Self::sequences).
    pub fn sequence(&self, index: usize) -> Vec<Example> {
        match &self.sequences {
            Some(sequences) => {
                let examples = sequences[index].iter();
                examples.map(|&i| self.store.get(i as usize)).collect()
            }
            None => vec![self.store.get(index)],
        }
    }

    /// One of the [`examples_in`](Self::examples_in) a sequence.
    ///
    /// # Panics
    /// If there is no such sequence, or `place` is not below their number.
    pub fn example(&self, sequence: usize, place: usize) -> Example {
        match &self.sequences {
            Some(sequences) => self.store.get(sequences[sequence][place] as usize),
            None => {
                assert_eq!(place, 0, "sequence {sequence} has one example");
                self.store.get(sequence)
            }
        }
    }

    /// The BLAKE3 hash of all sequences, in hexadecimal: of their tokens, labels and order.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.store.hash().as_bytes());
        for count in self.mixture.iter().flat_map(|mixture| mixture.per_epoch()) {
            hasher.update(&(count as u64).to_le_bytes());
        }
        for sequence in self.sequences.iter().flat_map(|sequences| sequences.iter()) {
            hasher.update(&(sequence.len() as u64).to_le_bytes());
            for index in sequence {
                hasher.update(&index.to_le_bytes());
            }
        }
        hasher.finalize().to_string()
    }

    /// A range of the sequences, each once in an epoch.
    ///
    /// # Panics
    /// If the range reaches beyond [`sequences`](Self::sequences).
    pub fn slice(&self, range: Range<usize>) -> Self {
        self.select(&range.collect::<Vec<usize>>())
    }

    /// The sequences at these indices, in this order and as often as they are named; together they
    /// are an epoch.
    ///
    /// # Panics
    /// If an index is not below [`sequences`](Self::sequences).
    pub fn select(&self, indices: &[usize]) -> Self {
        let indices = indices.iter();
        let part = match &self.sequences {
            Some(sequences) => indices.map(|&index| sequences[index].clone()).collect(),
            None => indices.map(|&index| vec![index as u32]).collect(),
        };
        Self {
            sequences: Some(Arc::new(part)),
            mixture: None,
            ..self.clone()
        }
    }

    /// The sequences at these indices as a batch.
    ///
    /// # Panics
    /// If an index is not below [`sequences`](Self::sequences).
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let rows: Vec<Vec<Example>> = indices.iter().map(|&index| self.sequence(index)).collect();
        let mut batch = if self.packed {
            Batch::pack(&rows, self.pad_id, self.pad_to_multiple_of)
        } else {
            Batch::collate(&rows.concat(), self.pad_id, self.pad_to_multiple_of)
        };
        if self.sets().len() > 1 {
            batch.sets = self.sets_of(indices);
        }
        batch
    }
}
