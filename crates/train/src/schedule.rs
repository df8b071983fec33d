//! Learning-rate schedules: pure functions of the step, as transformers' `get_scheduler`.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use serde::{Deserialize, Serialize};

/// `lr_scheduler_type`: how the learning rate runs after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    /// Down to 0 at the last step, in a straight line.
    #[default]
    Linear,
    /// Down to 0 at the last step, along half a cosine.
    Cosine,
    /// The same at every step, without a warm-up.
    Constant,
    /// The same at every step after the warm-up.
    ConstantWithWarmup,
}

/// A schedule over the optimizer steps of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How the learning rate runs after the warm-up.
    pub kind: SchedulerType,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The steps on the way up, from a learning rate of 0 at the first.
    pub warmup_steps: usize,
    /// The steps of the run.
    pub total_steps: usize,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn learning_rate(&self, step: usize) -> f64 {
        self.learning_rate * self.multiplier(step)
    }

    /// The share of the highest learning rate at a step, counted from 0.
    pub fn multiplier(&self, step: usize) -> f64 {
        let (kind, warmup) = (self.kind, self.warmup_steps);
        if kind == SchedulerType::Constant {
            return 1.0;
        }
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let after = self.total_steps.saturating_sub(warmup).max(1) as f64;
        match kind {
            SchedulerType::Linear => self.total_steps.saturating_sub(step) as f64 / after,
            SchedulerType::Cosine => {
                let progress = (step - warmup) as f64 / after;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup => 1.0,
        }
    }
}

/// A schedule with the step it is at, which is what Burn's `Learner` takes.
#[derive(Clone, Debug)]
pub struct ScheduleCursor {
    /// The schedule.
    pub schedule: Schedule,
    /// The next step, counted from 0.
    pub step: usize,
}

impl LrScheduler for ScheduleCursor {
    fn step(&mut self) -> f64 {
        let learning_rate = self.schedule.learning_rate(self.step);
        self.step += 1;
        learning_rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("step", self.step as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(step) = record.scalar::<u64>("step") {
            self.step = step as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values computed by hand from the formulas in transformers/optimization.py.
    #[track_caller]
    fn check(kind: SchedulerType, warmup_steps: usize, expected: &[(usize, f64)]) {
        let schedule = Schedule {
            kind,
            learning_rate: 1.0,
            warmup_steps,
            total_steps: 10,
        };
        for &(step, value) in expected {
            let found = schedule.learning_rate(step);
            assert!(
                (found - value).abs() < 1e-12,
                "step {step}: {found}, not {value}"
            );
        }
    }

    #[test]
    fn follow_transformers() {
        use SchedulerType::*;
        check(
            Linear,
            0,
            &[(0, 1.0), (1, 0.9), (9, 0.1), (10, 0.0), (12, 0.0)],
        );
        check(
            Linear,
            4,
            &[
                (0, 0.0),
                (1, 0.25),
                (4, 1.0),
                (7, 0.5),
                (9, 1.0 / 6.0),
                (10, 0.0),
            ],
        );
        check(Cosine, 0, &[(0, 1.0), (5, 0.5), (10, 0.0)]);
        // 0.5 (1 + cos(π · 2/6)) = 0.75
        check(
            Cosine,
            4,
            &[(2, 0.5), (4, 1.0), (6, 0.75), (7, 0.5), (8, 0.25)],
        );
        check(Constant, 4, &[(0, 1.0), (99, 1.0)]);
        check(
            ConstantWithWarmup,
            4,
            &[(0, 0.0), (3, 0.75), (4, 1.0), (99, 1.0)],
        );
        // A warm-up as long as the run, or longer.
        check(Linear, 10, &[(9, 0.9), (10, 0.0)]);
        check(Linear, 20, &[(10, 0.5)]);
    }

    #[test]
    fn the_cursor_starts_with_step_0_and_can_be_saved() {
        let schedule = Schedule {
            kind: SchedulerType::Linear,
            learning_rate: 2.0,
            warmup_steps: 0,
            total_steps: 4,
        };
        let mut cursor = ScheduleCursor { schedule, step: 0 };
        assert_eq!([cursor.step(), cursor.step()], [2.0, 1.5]);
        let mut again = ScheduleCursor { schedule, step: 0 };
        again.load_record(cursor.to_record());
        assert_eq!(again.step(), 1.0);
    }
}
