//! Mixing several sets by weight: how many rows of each an epoch has, and in which order.

use crate::batches::sampler::stream;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// When an epoch of a mixture ends, in the words of `interleave_datasets` of Hugging Face
/// `datasets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoppingStrategy {
    /// When the first set has given all its rows: no row comes twice.
    #[default]
    FirstExhausted,
    /// When every set has given all its rows: rows of the smaller sets come again.
    AllExhausted,
}

impl fmt::Display for StoppingStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstExhausted => "first_exhausted",
            Self::AllExhausted => "all_exhausted",
        })
    }
}

/// An epoch of more rows than this is a slip in the weights, unless the sets have that many rows.
const MOST: f64 = 1e8;

/// The number of rows of each set in an epoch: in proportion to the weights, at least one. The set
/// that ends the epoch gives exactly all its rows. `None` if there would be too many.
pub(crate) fn counts(
    rows: &[usize],
    weights: &[f64],
    strategy: StoppingStrategy,
) -> Option<Vec<usize>> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let weights: Vec<f64> = weights.iter().map(|weight| weight / largest).collect();
    // How long the rows of each set last.
    let lasts = rows.iter().zip(&weights);
    let lasts = lasts.map(|(&rows, weight)| rows as f64 / weight);
    let epoch = match strategy {
        StoppingStrategy::FirstExhausted => lasts.min_by(f64::total_cmp),
        StoppingStrategy::AllExhausted => lasts.max_by(f64::total_cmp),
    }?;
    let quotas = rows.iter().zip(&weights).map(|(&rows, weight)| {
        let (quota, rows) = (near_whole(weight * epoch), rows as f64);
        match strategy {
            StoppingStrategy::FirstExhausted => quota.min(rows),
            StoppingStrategy::AllExhausted => quota.max(rows),
        }
    });
    let quotas: Vec<f64> = quotas.collect();
    let total: f64 = quotas.iter().sum();
    let all: usize = rows.iter().sum();
    if total.is_nan() || total > MOST.max(all as f64) {
        return None;
    }
    let counts = apportion(total.round() as usize, &quotas).into_iter();
    Some(counts.map(|count| count.max(1)).collect())
}

/// Rounds a number that is whole but for rounding errors.
fn near_whole(quota: f64) -> f64 {
    let whole = quota.round();
    if (quota - whole).abs() <= 1e-9 * whole {
        whole
    } else {
        quota
    }
}

/// Rounds quotas to whole numbers with this sum, by largest remainders.
pub(crate) fn apportion(total: usize, quotas: &[f64]) -> Vec<usize> {
    let mut counts: Vec<usize> = quotas.iter().map(|quota| quota.floor() as usize).collect();
    let left = total.saturating_sub(counts.iter().sum());
    let mut order: Vec<usize> = (0..quotas.len()).collect();
    order.sort_by(|&a, &b| quotas[b].fract().total_cmp(&quotas[a].fract()));
    order.iter().take(left).for_each(|&set| counts[set] += 1);
    counts
}

/// The sequences of several sets, numbered one set after the other, and mixed: an epoch has a fixed
/// number of each, spread evenly, so that any part of it has about the same shares.
///
/// A set that gives all its sequences once or more often in an epoch gives them in a new order each
/// time. If a pass is not finished at the end of an epoch, the next epoch continues it, so that
/// over several epochs every sequence of a set comes equally often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixture {
    sets: Vec<MixedSet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MixedSet {
    /// The number of its first sequence among those of all sets.
    first: usize,
    sequences: usize,
    per_epoch: usize,
}

/// Passes that continue from epoch to epoch have a random number generator of their own.
const GOES_ON: u64 = 1 << 63;

impl Mixture {
    /// Mixes sets, each given by its number of sequences and how many of them an epoch has. A set
    /// without sequences gives none.
    pub fn new(sets: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut first = 0;
        let sets = sets.into_iter().map(|(sequences, per_epoch)| {
            let set = MixedSet {
                first,
                sequences,
                per_epoch: if sequences == 0 { 0 } else { per_epoch },
            };
            first += sequences;
            set
        });
        let sets = sets.collect();
        Self { sets }
    }

    /// The number of sequences in an epoch.
    pub fn len(&self) -> usize {
        self.per_epoch().sum()
    }

    /// Whether an epoch has no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of sequences of each set in an epoch.
    pub fn per_epoch(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.sets.iter().map(|set| set.per_epoch)
    }

    /// The sequences of an epoch in their order, epochs counted from 0: a pure function of seed and
    /// epoch. Without `shuffle` each set runs from its first sequence to its last.
    pub fn order(&self, seed: u64, epoch: u64, shuffle: bool) -> Vec<usize> {
        let sets = self.sets.iter().zip(1..).map(|(set, number)| {
            let seed = seed ^ u64::wrapping_mul(number, 0x9e37_79b9_7f4a_7c15);
            set.drawn(shuffle.then_some(seed), epoch).into_iter()
        });
        let mut sets: Vec<_> = sets.collect();
        let places = self.places().into_iter();
        places.filter_map(|set| sets[set].next()).collect()
    }

    /// The set at each position in an epoch; the positions of a set are spread as evenly as
    /// possible.
    fn places(&self) -> Vec<usize> {
        let places = self.per_epoch().enumerate().flat_map(|(set, count)| {
            (0..count).map(move |index| ((index as f64 + 0.5) / count as f64, set))
        });
        let mut places: Vec<(f64, usize)> = places.collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        places.into_iter().map(|(_, set)| set).collect()
    }
}

impl MixedSet {
    /// The set's sequences of an epoch.
    fn drawn(&self, seed: Option<u64>, epoch: u64) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(self.per_epoch);
        if self.sequences == 0 {
            return drawn;
        }
        let (passes, rest) = (
            (self.per_epoch / self.sequences) as u64,
            self.per_epoch % self.sequences,
        );
        for pass in 0..passes {
            let number = epoch.wrapping_mul(passes).wrapping_add(pass);
            drawn.extend(self.pass(seed, number & !GOES_ON));
        }
        let mut at = u128::from(epoch) * rest as u128;
        while drawn.len() < self.per_epoch {
            let pass = (at / self.sequences as u128) as u64;
            let from = (at % self.sequences as u128) as usize;
            let count = (self.per_epoch - drawn.len()).min(self.sequences - from);
            let pass = self.pass(seed, pass | GOES_ON);
            drawn.extend_from_slice(&pass[from..from + count]);
            at += count as u128;
        }
        drawn
    }

    /// All its sequences in the order of a pass.
    fn pass(&self, seed: Option<u64>, number: u64) -> Vec<usize> {
        let mut pass: Vec<usize> = (self.first..self.first + self.sequences).collect();
        if let Some(seed) = seed {
            pass.shuffle(&mut stream(seed, number));
        }
        pass
    }
}

#[cfg(test)]
#[path = "mixture_tests.rs"]
mod tests;
