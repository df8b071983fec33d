//! The state of a run: what it needs to resume besides weights and moments.

use serde::{Deserialize, Serialize};

use crate::checkpoint::best::Best;
use crate::objective::metric::Sums;

/// The state of a run. The order of the data, the learning rate and all randomness are pure
/// functions of this state and the arguments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Optimizer steps done.
    pub global_step: usize,
    /// The number of ranks that the run began with. A batch of all ranks has
    /// `per_device_train_batch_size` rows for each of them, however many ranks continue the run.
    #[serde(default = "one")]
    pub ranks: usize,
    /// The next batch.
    pub next: Position,
    /// Tokens seen, without padding.
    pub num_input_tokens_seen: usize,
    /// The sum of the losses of all steps.
    pub total_loss: f64,
    /// What was measured since the last log entry.
    pub since_log: Window,
    /// The recent course of the loss.
    #[serde(default)]
    pub trend: Trend,
    /// The best evaluation and checkpoint so far.
    #[serde(default)]
    pub best: Best,
    /// The step of the last finished evaluation; 0 if there was none.
    #[serde(default)]
    pub evaluated: usize,
    /// With several ranks, the bytes that each rank has passed to exchanges or received from them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exchanged_bytes: u64,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

fn one() -> usize {
    1
}

/// A running mean and variance of the loss, over about fifty steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Steps seen.
    pub steps: usize,
    /// The mean.
    pub mean: f64,
    /// The variance.
    pub variance: f64,
    /// The mean over the first steps, once they are done.
    #[serde(default)]
    pub first: f64,
}

impl Trend {
    /// Takes in the loss of a step. Returns by how many standard deviations the loss lies above the
    /// mean, if by more than three and if it is at least half of what the run began with. Where all
    /// losses are near zero, one hard row among easy ones is far above the others, and nothing is
    /// wrong.
    pub fn observe(&mut self, loss: f64) -> Option<f64> {
        const FIRST: usize = 20;
        const SHARE: f64 = 0.02;
        let distance = loss - self.mean;
        let deviations = distance / self.variance.sqrt();
        let spike = self.steps >= FIRST && deviations > 3.0 && loss >= self.first / 2.0;
        self.steps += 1;
        let share = SHARE.max(1.0 / self.steps as f64);
        self.mean += share * distance;
        self.variance = (1.0 - share) * (self.variance + share * distance * distance);
        if self.steps == FIRST {
            self.first = self.mean;
        }
        spike.then_some(deviations)
    }
}

/// A place in the order of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The batch within it, counted from 0.
    pub batch: usize,
}

/// Sums over some steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Steps.
    pub steps: usize,
    /// The sum of their losses.
    pub loss: f64,
    /// Their tokens, without padding.
    pub tokens: usize,
    /// The time they took, in seconds.
    pub seconds: f64,
    /// What the objective measured in them.
    #[serde(default)]
    pub measured: Sums,
}

impl Window {
    /// The mean loss of the steps.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.steps.max(1) as f64
    }

    /// Tokens per second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

impl TrainState {
    /// Counts a step; the batch `next` comes after it.
    pub fn advance(&mut self, next: Position) {
        self.global_step += 1;
        self.next = next;
    }

    /// Adds the results of a step.
    pub fn count(&mut self, loss: f64, tokens: usize, seconds: f64) {
        self.num_input_tokens_seen += tokens;
        self.total_loss += loss;
        self.since_log.steps += 1;
        self.since_log.loss += loss;
        self.since_log.tokens += tokens;
        self.since_log.seconds += seconds;
    }

    /// Whether the last step was the last of its epoch.
    pub fn epoch_ended(&self) -> bool {
        self.global_step > 0 && self.next.batch == 0
    }

    /// Epochs done, counted by batches as transformers does.
    pub fn epoch(&self, batches_per_epoch: usize) -> f64 {
        self.next.epoch as f64 + self.next.batch as f64 / batches_per_epoch.max(1) as f64
    }
}

/// The seed of the randomness (dropout) within a step. All forward passes of the step share it: a
/// row's random values depend on the row's place in the step.
pub(crate) fn step_seed(seed: u64, step: usize) -> u64 {
    // The finaliser of SplitMix64 spreads neighbouring numbers over all bits.
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mix(mix(mix(seed) ^ step as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_steps_of_a_run_share_a_seed() {
        let seeds = (0..800).map(|step| step_seed(42, step));
        assert_eq!(seeds.collect::<std::collections::HashSet<_>>().len(), 800);
        assert_ne!(step_seed(42, 0), step_seed(43, 0));
    }

    #[test]
    fn a_spike_is_seen_and_noise_and_progress_are_not() {
        let mut trend = Trend::default();
        let loss = |step: usize| 4.0 - 0.002 * step as f64 + 0.1 * (step as f64 * 1.7).sin();
        for step in 0..200 {
            assert_eq!(trend.observe(loss(step)), None, "{step}");
        }
        assert!(trend.observe(loss(200) + 1.0).unwrap() > 3.0);
        assert_eq!(trend.observe(loss(201)), None);
    }

    #[test]
    fn hard_rows_of_a_model_that_knows_the_others_are_no_spike() {
        let mut trend = Trend::default();
        let falling = |step: usize| 1.1 * (-0.02 * step as f64).exp() + 0.06;
        for step in 0..400 {
            let is_hard = step % 100 == 99;
            let loss = if is_hard { 0.28 } else { falling(step) };
            assert_eq!(trend.observe(loss), None, "{step}");
        }
        assert!(trend.observe(1.0).unwrap() > 3.0);
    }

    #[test]
    fn means_are_over_the_window_and_epochs_are_counted_in_batches() {
        let mut state = TrainState::default();
        state.advance(Position { epoch: 0, batch: 2 });
        state.count(2.0, 30, 0.5);
        state.advance(Position { epoch: 1, batch: 1 });
        state.count(4.0, 10, 0.5);
        assert_eq!(
            (
                state.since_log.mean_loss(),
                state.since_log.tokens_per_second()
            ),
            (3.0, 40.0)
        );
        assert_eq!(
            (
                state.epoch(4),
                state.num_input_tokens_seen,
                state.global_step
            ),
            (1.25, 40, 2)
        );
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<TrainState>(&text).unwrap(), state);
    }
}
