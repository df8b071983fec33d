//! The sums over a row's logits, piece by piece of the vocabulary.

use crate::cpu::attention::softcap::tanh;
use crate::cpu::buffer::vectorised;
use crate::cpu::exp::exp_one as exp;

/// The sums of a row after some of the words.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    largest: f32,
    /// The sum of the exponentials relative to `largest`.
    pub(super) sum: f32,
    /// What the row's earlier sums have to be multiplied by after the last piece.
    pub(super) factor: f32,
    /// The target's logit, once its piece has been seen.
    pub(super) target: f32,
    statistics: Sums,
}

/// The sums for statistics; the first two are relative to the largest logit.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// The sum of the squared exponentials.
    squares: f32,
    /// The sum of the exponentials times their logits.
    weighted: f32,
    /// The sum of the logits.
    logits: f32,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            largest: f32::NEG_INFINITY,
            sum: 0.0,
            factor: 1.0,
            target: 0.0,
            statistics: Sums::default(),
        }
    }
}

impl Row {
    /// The logarithm of the sum of all exponentials.
    pub fn log_sum(&self) -> f32 {
        self.largest + self.sum.ln()
    }

    /// `-log softmax(logits)[target]`.
    pub fn loss(&self) -> f32 {
        self.log_sum() - self.target
    }

    /// The logarithm of the sum of all squared probabilities.
    pub fn log_sum_sq_probs(&self) -> f32 {
        self.statistics.squares.ln() - 2.0 * self.sum.ln()
    }

    /// The entropy of the probabilities, in nats.
    pub fn entropy(&self) -> f32 {
        self.sum.ln() - self.statistics.weighted / self.sum
    }

    /// The sum of all logits.
    pub fn sum_of_logits(&self) -> f32 {
        self.statistics.logits
    }

    /// Whether no logit is larger than the target's.
    pub fn is_top1(&self) -> bool {
        self.target >= self.largest
    }
}

/// The slope of a capped logit with respect to the logit before the cap.
pub(super) fn slope(softcap: Option<f32>, logit: f32) -> f32 {
    softcap.map_or(1.0, |cap| 1.0 - (logit / cap) * (logit / cap))
}

vectorised! {
    /// Adds a bias to a row's products and caps them.
    pub(super) fn finish_logits<'a>(logits: &'a mut [f32], bias: Option<&'a [f32]>, softcap: Option<f32>) {
        if let Some(bias) = bias {
            for (logit, bias) in logits.iter_mut().zip(bias) {
                *logit += bias;
            }
        }
        if let Some(cap) = softcap {
            for logit in logits {
                *logit = cap * tanh(pulp::Scalar, *logit / cap);
            }
        }
    }

    /// Turns a row's logits into exponentials relative to its largest logit so far; if there is a
    /// cap, times the logit's [`slope`].
    pub(super) fn soften_row<'a>(logits: &'a mut [f32], row: &'a mut Row, softcap: Option<f32>) {
        const LANES: usize = 16;
        let largest = largest(logits, row.largest);
        let mut sums = [0.0; LANES];
        let (whole, rest) = logits.as_chunks_mut::<LANES>();
        for chunk in whole {
            for (sum, logit) in sums.iter_mut().zip(chunk) {
                let exponential = exp(*logit - largest);
                *sum += exponential;
                *logit = slope(softcap, *logit) * exponential;
            }
        }
        let mut sum: f32 = sums.iter().sum();
        for logit in rest {
            let exponential = exp(*logit - largest);
            sum += exponential;
            *logit = slope(softcap, *logit) * exponential;
        }
        // NaN logits leave the largest where it was and make the sum NaN, which the loss shows.
        row.factor = exp(row.largest - largest);
        row.sum = row.sum * row.factor + sum;
        row.largest = largest;
    }

    /// Adds a row's logits to its statistics: before [`soften_row`], which forgets them.
    pub(super) fn count_row<'a>(logits: &'a [f32], row: &'a mut Row) {
        const LANES: usize = 16;
        let largest = largest(logits, row.largest);
        let (mut squares, mut weighted, mut all) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let (whole, rest) = logits.as_chunks::<LANES>();
        let mut count = |lane: usize, logit: f32| {
            let relative = logit - largest;
            let exponential = exp(relative);
            squares[lane] += exponential * exponential;
            weighted[lane] += exponential * relative;
            all[lane] += logit;
        };
        for chunk in whole {
            for (lane, &logit) in chunk.iter().enumerate() {
                count(lane, logit);
            }
        }
        for (lane, &logit) in rest.iter().enumerate() {
            count(lane, logit);
        }
        let sums = &mut row.statistics;
        if row.sum > 0.0 {
            // Makes the sums so far relative to the new largest logit.
            let change = row.largest - largest;
            let factor = exp(change);
            sums.squares *= factor * factor;
            sums.weighted = factor * (sums.weighted + change * row.sum);
        }
        sums.squares += squares.iter().sum::<f32>();
        sums.weighted += weighted.iter().sum::<f32>();
        sums.logits += all.iter().sum::<f32>();
    }
}

#[inline(always)]
fn largest(logits: &[f32], before: f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = logits.as_chunks::<LANES>();
    for chunk in whole {
        for (largest, &logit) in lanes.iter_mut().zip(chunk) {
            *largest = if logit > *largest { logit } else { *largest };
        }
    }
    let largest = lanes.iter().chain(rest).copied();
    largest.fold(before, f32::max)
}
