//! The order of examples: a pure function of seed and epoch, so that a run can resume anywhere.

use crate::error::{DataError, Result};
use crate::mixture::Mixture;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::cmp::Reverse;
use std::sync::Arc;

/// Draws batches of example indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampler {
    len: usize,
    batch_size: usize,
    seed: u64,
    shuffle: bool,
    /// The lengths to group by, with `group_by_length`.
    lengths: Option<Arc<[usize]>>,
    /// The mixture to draw from, in place of every example once.
    mixture: Option<Arc<Mixture>>,
}

impl Sampler {
    /// A sampler over `len` examples. Without `shuffle`, every epoch runs from the first example to
    /// the last.
    ///
    /// # Errors
    /// If `batch_size` is 0.
    pub fn new(len: usize, batch_size: usize, seed: u64, shuffle: bool) -> Result<Self> {
        match batch_size {
            0 => Err(DataError::BatchSize),
            _ => Ok(Self {
                len,
                batch_size,
                seed,
                shuffle,
                lengths: None,
                mixture: None,
            }),
        }
    }

    /// Draws a mixture's examples of an epoch, in place of every example once.
    pub fn mixed(mut self, mixture: impl Into<Arc<Mixture>>) -> Self {
        let mixture = mixture.into();
        self.len = mixture.len();
        self.mixture = Some(mixture);
        self
    }

    /// Groups examples of about the same length into a batch, as transformers' `group_by_length`
    /// does: the shuffled order is cut into stretches of at most 50 batches (and at most a quarter
    /// of all), and each stretch is sorted from its longest example to its shortest. The longest
    /// example of all comes first, so that a run that does not fit in memory fails at once.
    /// `lengths` are the lengths of all examples.
    ///
    /// Without shuffling it changes nothing.
    pub fn group_by_length(mut self, lengths: impl Into<Arc<[usize]>>) -> Self {
        self.lengths = Some(lengths.into()).filter(|_| self.shuffle);
        self
    }

    /// The number of examples in an epoch.
    pub fn examples_per_epoch(&self) -> usize {
        self.len
    }

    /// The number of batches in an epoch, including a last one that is not full.
    pub fn batches_per_epoch(&self) -> usize {
        self.len.div_ceil(self.batch_size)
    }

    /// The examples of an epoch in their order, epochs counted from 0: all of them, or a mixture's.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order = match &self.mixture {
            Some(mixture) => mixture.order(self.seed, epoch, self.shuffle),
            None => {
                let mut order: Vec<usize> = (0..self.len).collect();
                if self.shuffle {
                    order.shuffle(&mut stream(self.seed, epoch));
                }
                order
            }
        };
        if let Some(lengths) = &self.lengths {
            self.group(&mut order, lengths);
        }
        order
    }

    fn group(&self, order: &mut [usize], lengths: &[usize]) {
        let length = |&example: &usize| lengths.get(example).copied().unwrap_or(0);
        let batches = (order.len() / self.batch_size / 4).clamp(1, 50);
        let size = batches * self.batch_size;
        for stretch in order.chunks_mut(size) {
            stretch.sort_by_key(|example| Reverse(length(example)));
        }
        let firsts = (0..order.len()).step_by(size);
        if let Some(longest) = firsts.min_by_key(|&first| Reverse(length(&order[first]))) {
            order.swap(0, longest);
        }
    }

    /// The batches of an epoch. The last one may be shorter.
    pub fn batches(&self, epoch: u64) -> impl ExactSizeIterator<Item = Vec<usize>> + use<> {
        self.batches_from(epoch, 0)
    }

    /// The batches of an epoch from batch `first` on, which is where an interrupted epoch resumes.
    pub fn batches_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> impl ExactSizeIterator<Item = Vec<usize>> + use<> {
        let (order, size) = (self.order(epoch), self.batch_size);
        let batches = first.min(self.batches_per_epoch())..self.batches_per_epoch();
        batches.map(move |i| order[i * size..order.len().min((i + 1) * size)].to_vec())
    }
}

/// A random number generator that depends on the seed and a counter only.
pub(crate) fn stream(seed: u64, counter: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(counter);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_example_once_in_its_own_order() {
        let sampler = Sampler::new(10, 4, 42, true).unwrap();
        let epoch = |n| sampler.batches(n).collect::<Vec<_>>();
        assert_eq!(epoch(0).iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        for n in 0..3 {
            let mut seen = epoch(n).concat();
            assert_eq!(seen, sampler.order(n));
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(epoch(1), epoch(1));
        assert_ne!(epoch(0), epoch(1));
        assert_ne!(
            epoch(0).concat(),
            Sampler::new(10, 4, 43, true).unwrap().order(0)
        );
    }

    #[test]
    fn an_epoch_goes_on_where_it_stopped() {
        let sampler = Sampler::new(10, 3, 7, true).unwrap();
        let all: Vec<_> = sampler.batches(5).collect();
        assert_eq!((all.len(), sampler.batches_per_epoch()), (4, 4));
        for first in 0..=5 {
            let rest: Vec<_> = sampler.batches_from(5, first).collect();
            assert_eq!(rest, all[first.min(4)..]);
        }
    }

    #[test]
    fn grouped_batches_have_about_one_length() {
        let lengths: Vec<usize> = (0..400).map(|i| 1 + (i * 37) % 101).collect();
        let plain = Sampler::new(400, 4, 42, true).unwrap();
        let grouped = plain.clone().group_by_length(lengths.clone());
        let width = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i]).max().unwrap();
        let cells = |sampler: &Sampler| sampler.batches(3).map(|b| 4 * width(&b)).sum::<usize>();
        let tokens: usize = lengths.iter().sum();
        assert!(cells(&grouped) < tokens * 11 / 10 && cells(&plain) > tokens * 14 / 10);

        let mut order = grouped.order(3);
        assert_eq!(lengths[order[0]], 101);
        assert_ne!(order, grouped.order(4));
        let rest: Vec<_> = grouped.batches_from(3, 60).collect();
        assert_eq!(rest.concat(), order[240..]);
        order.sort_unstable();
        assert_eq!(order, (0..400).collect::<Vec<_>>());
        let in_order = Sampler::new(400, 4, 0, false).unwrap();
        assert!(in_order.group_by_length(lengths).order(0).is_sorted());
    }

    #[test]
    fn edges() {
        let in_order = Sampler::new(3, 8, 1, false).unwrap();
        assert_eq!(in_order.batches(9).collect::<Vec<_>>(), [[0, 1, 2]]);
        assert_eq!(Sampler::new(0, 8, 1, true).unwrap().batches(0).len(), 0);
        let error = Sampler::new(3, 0, 1, true).unwrap_err().to_string();
        assert_eq!(error, "the batch size is 0; it must be 1 or more");
    }
}
