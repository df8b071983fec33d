//! Statistics: how long the examples are, and what share of each batch is padding.

use crate::batches::packing::pack;
use crate::batches::sampler::Sampler;
use crate::error::Result;
use serde::Serialize;
use std::ops::RangeInclusive;

/// A histogram of lengths, in ranges of equal width.
pub fn histogram(lengths: &[usize], bars: usize) -> Vec<(RangeInclusive<usize>, usize)> {
    let (Some(&shortest), Some(&longest)) = (lengths.iter().min(), lengths.iter().max()) else {
        return Vec::new();
    };
    let width = (longest - shortest + 1).div_ceil(bars.max(1));
    let bars = (longest - shortest + 1).div_ceil(width);
    let mut counts = vec![0; bars];
    for length in lengths {
        counts[(length - shortest) / width] += 1;
    }
    let range = |bar: usize| {
        let first = shortest + bar * width;
        first..=(first + width - 1).min(longest)
    };
    (0..bars).map(range).zip(counts).collect()
}

/// The share of padding among all tokens of an epoch, from 0 to 1, for each way to batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Padding {
    /// Each batch padded to its longest example.
    pub longest: f64,
    /// The same, with examples grouped by length.
    pub group_by_length: f64,
    /// Packed.
    pub packing: f64,
    /// The number of rows of an epoch when packed.
    pub packed_rows: usize,
}

impl Padding {
    /// Counts the padding of the first epoch with this batch size and seed, for examples of these
    /// lengths. `max_length` is the length that rows are packed to.
    ///
    /// # Errors
    /// If `batch_size` is 0.
    pub fn count(
        lengths: &[usize],
        batch_size: usize,
        max_length: usize,
        seed: u64,
    ) -> Result<Self> {
        let share = |lengths: &[usize], grouped: bool| -> Result<f64> {
            let mut sampler = Sampler::new(lengths.len(), batch_size, seed, true)?;
            if grouped {
                sampler = sampler.group_by_length(lengths);
            }
            let cells = sampler.batches(0).map(|batch| {
                let longest = batch.iter().map(|&i| lengths[i]).max().unwrap_or(0);
                batch.len() * longest
            });
            let (cells, tokens) = (cells.sum::<usize>(), lengths.iter().sum::<usize>());
            Ok(1.0 - tokens as f64 / cells.max(1) as f64)
        };
        let rows = pack(lengths, max_length);
        let tokens = |row: &Vec<u32>| row.iter().map(|&i| lengths[i as usize]).sum();
        let packed: Vec<usize> = rows.iter().map(tokens).collect();
        Ok(Self {
            longest: share(lengths, false)?,
            group_by_length: share(lengths, true)?,
            packing: share(&packed, false)?,
            packed_rows: packed.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Example, Examples, Shape};

    #[test]
    fn bars_hold_every_length_once() {
        let bars = histogram(&[3, 4, 4, 9, 12], 4);
        assert_eq!(bars, [(3..=5, 3), (6..=8, 0), (9..=11, 1), (12..=12, 1)]);
        assert_eq!(histogram(&[7, 7], 10), [(7..=7, 2)]);
        assert!(histogram(&[], 10).is_empty());
    }

    #[test]
    fn padding_is_what_batches_hold() {
        let example = |length: usize| Example {
            input_ids: vec![1; length],
            labels: vec![1; length],
            row: length,
        };
        let lengths = (0..64).map(|i| 2 + (i * 7) % 31);
        let rows: Vec<Example> = lengths.map(example).collect();
        let examples = Examples::new("a", Shape::Tokenized, &rows).unwrap();
        let found = Padding::count(&examples.lengths(), 4, 32, 42).unwrap();
        let sampler = Sampler::new(64, 4, 42, true).unwrap();
        let (mut cells, mut tokens) = (0, 0);
        for indices in sampler.batches(0) {
            let batch = examples.batch(&indices);
            cells += batch.len() * batch.width;
            tokens += batch.tokens();
        }
        assert_eq!(found.longest, 1.0 - tokens as f64 / cells as f64);
        assert!(found.packing < 0.05 && found.packing < found.group_by_length);
        assert!(found.group_by_length < found.longest);
    }
}
