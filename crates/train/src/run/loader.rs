//! Our sampler as one of Burn's data loaders: batches that know where they are from.

use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn_peft_data::{Batch, Examples, Sampler};

use crate::configuration::arguments::{SamplingStrategy, TrainingArguments};
use crate::error::Result;
use crate::objective::Objective;
use crate::run::evaluate::batch;
use crate::run::state::Position;

/// The most examples that are drawn to look for the largest batch.
const DRAWS: usize = 10_000_000;

/// One forward pass: a batch, on the host until the objective wants it elsewhere.
#[derive(Clone, Debug)]
pub struct MicroBatch<M> {
    /// What the model is trained for.
    pub objective: Arc<dyn Objective<M>>,
    /// The examples.
    pub batch: Batch,
    /// What the sum of the losses is multiplied with: one over what the losses of the whole
    /// optimizer step count for, so that accumulated gradients are those of one big batch.
    pub weight: f64,
    /// Where the data go on after it.
    pub next: Position,
}

/// Draws batches.
pub(crate) struct Loader<M> {
    objective: Arc<dyn Objective<M>>,
    examples: Arc<Examples>,
    sampler: Sampler,
    batch_size: usize,
    order: Order,
}

/// In which order a [`Loader`] draws, and how long.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// Every example once, in the order of the file, whatever they are mixed to.
    File,
    /// Shuffled by the seed, epoch after epoch without end, beginning anywhere.
    Shuffled { seed: u64, start: Position },
    /// As `Shuffled`, with batches of about the same length.
    Grouped { seed: u64, start: Position },
    /// As `Shuffled`, with every epoch in the order of the file.
    Sequential { start: Position },
}

impl Order {
    /// The order that a run draws its training data in, from `start` on.
    pub fn of(arguments: &TrainingArguments, start: Position) -> Self {
        let seed = arguments.seed;
        match arguments.sampling_strategy() {
            SamplingStrategy::Random => Self::Shuffled { seed, start },
            SamplingStrategy::GroupByLength => Self::Grouped { seed, start },
            SamplingStrategy::Sequential => Self::Sequential { start },
        }
    }
}

impl<M: 'static> Loader<M> {
    pub fn new(
        objective: Arc<dyn Objective<M>>,
        examples: Arc<Examples>,
        batch_size: usize,
        order: Order,
    ) -> Result<Self> {
        let (seed, shuffle) = match order {
            Order::File | Order::Sequential { .. } => (0, false),
            Order::Shuffled { seed, .. } | Order::Grouped { seed, .. } => (seed, true),
        };
        let mut sampler = Sampler::new(examples.sequences(), batch_size, seed, shuffle)?;
        if let (Some(mixture), false) = (examples.mixture(), matches!(order, Order::File)) {
            sampler = sampler.mixed(Arc::clone(mixture));
        }
        if let Order::Grouped { .. } = order {
            sampler = sampler.group_by_length(examples.lengths());
        }
        Ok(Self {
            objective,
            examples,
            sampler,
            batch_size,
            order,
        })
    }

    pub fn batches_per_epoch(&self) -> usize {
        self.sampler.batches_per_epoch()
    }

    /// The sequences of the batch with the most tokens in so many epochs: the one that takes the
    /// most memory.
    pub fn largest_batch(&self, epochs: usize) -> Vec<usize> {
        let lengths = self.examples.lengths();
        let tokens = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i]).sum::<usize>();
        let epochs = match self.order {
            Order::File | Order::Sequential { .. } => 1,
            // Of very many, some say how large a batch becomes.
            _ => epochs.min(DRAWS.div_ceil(self.sampler.examples_per_epoch().max(1))),
        };
        let batches = (0..epochs as u64).flat_map(|epoch| self.sampler.batches(epoch));
        batches.max_by_key(tokens).unwrap_or_default()
    }

    fn batches(&self) -> impl Iterator<Item = std::result::Result<MicroBatch<M>, DatasetError>> {
        let (start, last) = match self.order {
            Order::File => (Position::default(), 0),
            Order::Shuffled { start, .. }
            | Order::Grouped { start, .. }
            | Order::Sequential { start } => (start, u64::MAX),
        };
        (start.epoch..=last).flat_map(move |epoch| {
            let first = if epoch == start.epoch { start.batch } else { 0 };
            let batches = (first..).zip(self.sampler.batches_from(epoch, first));
            batches.map(move |(batch, indices)| self.load(Position { epoch, batch }, &indices))
        })
    }

    fn load(
        &self,
        at: Position,
        indices: &[usize],
    ) -> std::result::Result<MicroBatch<M>, DatasetError> {
        let batch = batch(&self.examples, indices).map_err(DatasetError::new)?;
        let next = match at.batch + 1 == self.sampler.batches_per_epoch() {
            true => Position {
                epoch: at.epoch + 1,
                batch: 0,
            },
            false => Position {
                epoch: at.epoch,
                batch: at.batch + 1,
            },
        };
        Ok(MicroBatch {
            objective: Arc::clone(&self.objective),
            batch,
            weight: 1.0,
            next,
        })
    }
}

impl<M: 'static> DataLoader<MicroBatch<M>> for Loader<M> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<MicroBatch<M>> + 'a> {
        Box::new(Batches {
            inner: Box::new(self.batches()),
            progress: Progress::new(0, self.num_items(), Some("examples".into())),
        })
    }

    fn num_items(&self) -> usize {
        self.examples.len()
    }

    fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<MicroBatch<M>>> {
        Arc::new(Self {
            objective: Arc::clone(&self.objective),
            examples: Arc::clone(&self.examples),
            sampler: self.sampler.clone(),
            ..*self
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<MicroBatch<M>>> {
        let part = Self::new(
            Arc::clone(&self.objective),
            Arc::new(self.examples.slice(start..end)),
            self.batch_size,
            self.order,
        );
        Arc::new(part.expect("the batch size is the same, and was fine"))
    }
}

struct Batches<'a, M> {
    inner: Box<dyn Iterator<Item = std::result::Result<MicroBatch<M>, DatasetError>> + 'a>,
    progress: Progress,
}

impl<M> Iterator for Batches<'_, M> {
    type Item = std::result::Result<MicroBatch<M>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.inner.next()?;
        if let Ok(batch) = &batch {
            self.progress.items_processed += batch.batch.rows.len();
        }
        Some(batch)
    }
}

impl<M> DataLoaderIterator<MicroBatch<M>> for Batches<'_, M> {
    fn progress(&self) -> Progress {
        self.progress.clone()
    }
}
