//! Our sampler as one of Burn's data loaders, with batches that know where they come from.

use std::ops::Range;
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
    /// The factor for the sum of the losses: one over the denominator of the whole optimizer step,
    /// so that accumulated gradients are those of one big batch.
    pub weight: f64,
    /// The index of its first token within the batch of all ranks, of which this is a part.
    pub first_token: usize,
    /// In the last part of a batch of all ranks: the number of token positions in the whole batch.
    /// `None` in the other parts.
    pub ends: Option<usize>,
    /// The position in the data after the batch of all ranks.
    pub next: Position,
}

/// The part of every batch that a rank takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// The number of the rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The most rows that the rank takes at once.
    pub rows: usize,
}

impl Share {
    /// All of every batch, in one piece.
    pub const ALL: Self = Self {
        rank: 0,
        size: 1,
        rows: usize::MAX,
    };

    /// This rank's pieces of a batch of `rows` rows, where a full batch has `full` rows: at least
    /// one piece, which may be empty.
    fn pieces(self, rows: usize, full: usize) -> Vec<Range<usize>> {
        let each = full.div_ceil(self.size);
        let end = rows.min((self.rank + 1) * each);
        let start = end.min(self.rank * each);
        let pieces = (start..end).step_by(self.rows);
        let mut pieces: Vec<_> = pieces
            .map(|at| at..end.min(at.saturating_add(self.rows)))
            .collect();
        if pieces.is_empty() {
            pieces.push(start..end);
        }
        pieces
    }
}

/// Draws batches.
pub(crate) struct Loader<M> {
    objective: Arc<dyn Objective<M>>,
    examples: Arc<Examples>,
    sampler: Sampler,
    /// The rows in a batch of all ranks.
    batch_size: usize,
    order: Order,
    share: Share,
    /// The tokens of each sequence; empty if this rank takes whole batches.
    lengths: Arc<[usize]>,
}

/// In which order a [`Loader`] draws, and how long.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// Every example once, in the order of the file, whatever the mixture.
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
            share: Share::ALL,
            lengths: Arc::default(),
        })
    }

    /// Loads only a rank's share of every batch.
    pub fn shared(mut self, share: Share) -> Self {
        if share.size > 1 || share.rows < self.batch_size {
            self.lengths = self.examples.lengths().into();
        }
        self.share = share;
        self
    }

    pub fn batches_per_epoch(&self) -> usize {
        self.sampler.batches_per_epoch()
    }

    /// The sequences of the batch with the most tokens in `epochs` epochs, which is the one that
    /// takes the most memory.
    pub fn largest_batch(&self, epochs: usize) -> Vec<usize> {
        let lengths = self.examples.lengths();
        let tokens = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i]).sum::<usize>();
        let epochs = match self.order {
            Order::File | Order::Sequential { .. } => 1,
            // If there are very many, some of them show how large a batch becomes.
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
            batches.flat_map(move |(batch, indices)| {
                let at = Position { epoch, batch };
                let pieces = self.share.pieces(indices.len(), self.batch_size);
                let last = pieces.len() - 1;
                let pieces = pieces.into_iter().enumerate();
                pieces.map(move |(number, rows)| self.load(at, &indices, rows, number == last))
            })
        })
    }

    /// Loads the piece `rows` of the batch of these sequences.
    fn load(
        &self,
        at: Position,
        indices: &[usize],
        rows: Range<usize>,
        is_last: bool,
    ) -> std::result::Result<MicroBatch<M>, DatasetError> {
        let mut piece = if rows.is_empty() {
            Batch::default()
        } else {
            batch(&self.examples, &indices[rows.clone()]).map_err(DatasetError::new)?
        };
        let places = |of: &[usize]| of.iter().map(|&index| self.lengths[index]).sum::<usize>();
        let (first_token, all) = if rows.len() == indices.len() {
            (0, piece.places())
        } else if self.examples.is_packed() {
            // Packed rows are a matrix, as wide in every piece.
            piece.width = self.examples.batch(indices).width;
            (rows.start * piece.width, indices.len() * piece.width)
        } else {
            (places(&indices[..rows.start]), places(indices))
        };
        let next = if at.batch + 1 == self.sampler.batches_per_epoch() {
            Position {
                epoch: at.epoch + 1,
                batch: 0,
            }
        } else {
            Position {
                epoch: at.epoch,
                batch: at.batch + 1,
            }
        };
        Ok(MicroBatch {
            objective: Arc::clone(&self.objective),
            batch: piece,
            weight: 1.0,
            first_token,
            ends: is_last.then_some(all),
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
            lengths: Arc::clone(&self.lengths),
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
        let part = part.expect("the batch size is the same, and was fine");
        Arc::new(part.shared(self.share))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // A rank with one piece has a list of one range.
    #[allow(clippy::single_range_in_vec_init)]
    fn every_row_of_a_batch_is_in_one_piece_of_one_rank() {
        let pieces = |size: usize, rows: usize, all: usize| -> Vec<Vec<Range<usize>>> {
            let share = |rank| Share { rank, size, rows };
            (0..size).map(|rank| share(rank).pieces(all, 12)).collect()
        };
        assert_eq!(pieces(2, 6, 12), [[0..6], [6..12]]);
        // The last batch of an epoch.
        assert_eq!(pieces(3, 4, 5), [vec![0..4], vec![4..5], vec![5..5]]);
        // Fewer ranks, and more, than the run was begun with.
        assert_eq!(pieces(1, 5, 12), [[0..5, 5..10, 10..12]]);
        assert_eq!(
            pieces(5, 6, 12),
            [[0..3], [3..6], [6..9], [9..12], [12..12]]
        );
        assert_eq!(Share::ALL.pieces(7, 7), [0..7]);
    }
}
