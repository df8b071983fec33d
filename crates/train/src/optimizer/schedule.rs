//! Learning-rate schedules: pure functions of the step, as in transformers' `get_scheduler`.

use std::f64::consts::PI;

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ArgumentProblem;

/// `lr_scheduler_type`: how the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    /// Falls to 0 at the last step, in a straight line.
    #[default]
    Linear,
    /// Falls to 0 at the last step, along `num_cycles` cosines (default: half a cosine).
    Cosine,
    /// As `cosine`, but falls to `min_lr`, or to `min_lr_rate` times the learning rate.
    CosineWithMinLr,
    /// Falls to 0 along half a cosine `num_cycles` times, each time from the top.
    CosineWithRestarts,
    /// Falls to `lr_end` (default: 1e-7) at the last step, with the share of steps left to the
    /// power of `power` (default: 1).
    Polynomial,
    /// Falls with the inverse square root of the step: to a half after three more `timescale`s. The
    /// default of `timescale` is the warm-up, or 10,000 steps without one.
    InverseSqrt,
    /// The same at every step, without a warm-up.
    Constant,
    /// The same at every step after the warm-up.
    ConstantWithWarmup,
}

impl SchedulerType {
    /// Its keys in `lr_scheduler_kwargs`.
    fn kwargs(self) -> &'static [&'static str] {
        match self {
            Self::Cosine | Self::CosineWithRestarts => &["num_cycles"],
            Self::CosineWithMinLr => &["num_cycles", "min_lr", "min_lr_rate"],
            Self::Polynomial => &["power", "lr_end"],
            Self::InverseSqrt => &["timescale"],
            Self::Linear | Self::Constant | Self::ConstantWithWarmup => &[],
        }
    }
}

/// `lr_scheduler_kwargs`: the shape of a schedule; each type has its own keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulerKwargs {
    /// `cosine`: the number of waves (default: 0.5); `cosine_with_restarts`: how often it starts at
    /// the top (default: 1).
    pub num_cycles: Option<f64>,
    /// `polynomial`: the exponent (default: 1).
    pub power: Option<f64>,
    /// `polynomial`: the learning rate at the end (default: 1e-7).
    pub lr_end: Option<f64>,
    /// `inverse_sqrt`: the steps after which the learning rate has fallen to 1/√2.
    pub timescale: Option<f64>,
    /// `cosine_with_min_lr`: the learning rate at the end.
    pub min_lr: Option<f64>,
    /// `cosine_with_min_lr`: the learning rate at the end, as a share of `learning_rate`.
    pub min_lr_rate: Option<f64>,
}

/// A schedule over the optimizer steps of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    /// How the learning rate changes after the warm-up.
    pub kind: SchedulerType,
    /// The values that shape it.
    pub kwargs: SchedulerKwargs,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The steps of the warm-up, which starts at a learning rate of 0.
    pub warmup_steps: usize,
    /// The number of steps in the run.
    pub total_steps: usize,
}

impl Schedule {
    /// Checks `lr_scheduler_kwargs` against the type.
    ///
    /// # Errors
    /// Returns what is wrong, to be read after `lr_scheduler_kwargs`.
    pub(crate) fn validate(&self) -> Result<(), ArgumentProblem> {
        let kwargs = &self.kwargs;
        let kind = serde_json::to_value(self.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        let (known, at_least_zero) = (self.kind.kwargs(), |value: f64| value >= 0.0);
        for (key, value) in [
            ("num_cycles", kwargs.num_cycles),
            ("power", kwargs.power),
            ("lr_end", kwargs.lr_end),
            ("timescale", kwargs.timescale),
            ("min_lr", kwargs.min_lr),
            ("min_lr_rate", kwargs.min_lr_rate),
        ] {
            let Some(value) = value else { continue };
            if !known.contains(&key) {
                let kind = kind.to_string();
                return Err(if known.is_empty() {
                    ArgumentProblem::NoScheduleKeys { key, kind }
                } else {
                    let keys = known;
                    ArgumentProblem::OtherScheduleKeys { key, kind, keys }
                });
            }
            if !(value.is_finite() && at_least_zero(value)) || (key == "timescale" && value == 0.0)
            {
                return Err(ArgumentProblem::ScheduleValue { key, value });
            }
        }
        let lr = self.learning_rate;
        match (self.kind, kwargs.min_lr, kwargs.min_lr_rate) {
            (SchedulerType::Polynomial, ..) if self.lr_end() >= lr => Err(ArgumentProblem::LrEnd {
                lr_end: self.lr_end(),
                learning_rate: lr,
            }),
            (SchedulerType::CosineWithMinLr, None, None) => Err(ArgumentProblem::NoMinimum),
            (SchedulerType::CosineWithMinLr, Some(_), Some(_)) => Err(ArgumentProblem::TwoMinima),
            _ => Ok(()),
        }
    }

    /// A warning if the warm-up ends with the run or after it, so that the learning rate never
    /// reaches its full value.
    pub(crate) fn warning(&self) -> Option<String> {
        let Self {
            learning_rate,
            warmup_steps,
            total_steps,
            ..
        } = *self;
        if self.kind == SchedulerType::Constant || warmup_steps < total_steps.max(1) {
            return None;
        }
        let highest = self.learning_rate(total_steps.saturating_sub(1));
        let highest = if highest == 0.0 {
            "0".to_string()
        } else {
            format!("{highest:.2e}")
        };
        Some(format!(
            "the warm-up takes {warmup_steps} steps and the run {total_steps}: the learning rate \
             reaches only {highest} instead of {learning_rate:e}; set a smaller \
             training.warmup_steps or warmup_ratio"
        ))
    }

    /// The learning rate at a step, counted from 0.
    pub fn learning_rate(&self, step: usize) -> f64 {
        self.learning_rate * self.multiplier(step)
    }

    fn lr_end(&self) -> f64 {
        self.kwargs.lr_end.unwrap_or(1e-7)
    }

    /// The factor for the highest learning rate at a step, counted from 0: the lambdas of
    /// transformers/optimization.py.
    pub fn multiplier(&self, step: usize) -> f64 {
        let (warmup, total, kwargs) = (self.warmup_steps, self.total_steps, &self.kwargs);
        if self.kind == SchedulerType::Constant {
            return 1.0;
        }
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let after = total.saturating_sub(warmup).max(1) as f64;
        let progress = (step - warmup) as f64 / after;
        let wave = |cycles: f64| 0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos());
        match self.kind {
            SchedulerType::Linear => total.saturating_sub(step) as f64 / after,
            SchedulerType::Cosine => wave(kwargs.num_cycles.unwrap_or(0.5)).max(0.0),
            SchedulerType::CosineWithMinLr => {
                let given = kwargs.min_lr.map(|min| min / self.learning_rate);
                let lowest = given.or(kwargs.min_lr_rate).unwrap_or(0.0);
                let factor = wave(kwargs.num_cycles.unwrap_or(0.5));
                (factor * (1.0 - lowest) + lowest).max(0.0)
            }
            SchedulerType::CosineWithRestarts if progress >= 1.0 => 0.0,
            SchedulerType::CosineWithRestarts => {
                let within = (kwargs.num_cycles.unwrap_or(1.0) * progress) % 1.0;
                (0.5 * (1.0 + (PI * within).cos())).max(0.0)
            }
            SchedulerType::Polynomial => {
                let (lr, end) = (self.learning_rate, self.lr_end());
                if step > total {
                    return end / lr;
                }
                let left = (1.0 - progress).max(0.0);
                ((lr - end) * left.powf(kwargs.power.unwrap_or(1.0)) + end) / lr
            }
            SchedulerType::InverseSqrt => {
                let default = if warmup > 0 { warmup as f64 } else { 10_000.0 };
                let timescale = kwargs.timescale.unwrap_or(default);
                (((step - warmup) as f64 + timescale) / timescale)
                    .sqrt()
                    .recip()
            }
            SchedulerType::Constant | SchedulerType::ConstantWithWarmup => 1.0,
        }
    }
}

/// A schedule with its current step, as Burn's `Learner` takes it.
#[derive(Clone, Debug)]
pub struct ScheduleCursor {
    /// The schedule.
    pub schedule: Schedule,
    /// The next step, counted from 0.
    pub step: usize,
    /// The factor for the learning rate: 1, except for a group of parameters with its own.
    pub ratio: f64,
}

impl LrScheduler for ScheduleCursor {
    fn step(&mut self) -> f64 {
        let learning_rate = self.schedule.learning_rate(self.step) * self.ratio;
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

    /// The learning rates of transformers' own schedulers; parity/make.py wrote the file.
    const EXPECTED: &str = include_str!("../../../../tests/fixtures/parity/schedules.json");

    #[derive(Deserialize)]
    struct Expected {
        lr_scheduler_type: SchedulerType,
        warmup_steps: usize,
        lr_scheduler_kwargs: SchedulerKwargs,
        learning_rates: Vec<f64>,
    }

    #[test]
    fn follow_transformers() {
        let expected: Vec<Expected> = serde_json::from_str(EXPECTED).unwrap();
        assert!(expected.len() >= 16);
        for case in expected {
            let schedule = Schedule {
                kind: case.lr_scheduler_type,
                kwargs: case.lr_scheduler_kwargs,
                learning_rate: 0.01,
                warmup_steps: case.warmup_steps,
                total_steps: 20,
            };
            schedule.validate().unwrap();
            for (step, value) in case.learning_rates.into_iter().enumerate() {
                let found = schedule.learning_rate(step);
                assert!(
                    (found - value).abs() <= 1e-12 * value.abs().max(1e-5),
                    "{schedule:?}, step {step}: {found}, not {value}"
                );
            }
        }
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_or_longer() {
        let at = |warmup_steps, step| {
            let schedule = Schedule {
                learning_rate: 1.0,
                warmup_steps,
                total_steps: 10,
                ..Schedule::default()
            };
            schedule.learning_rate(step)
        };
        assert_eq!([at(10, 9), at(10, 10), at(20, 10)], [0.9, 0.0, 0.5]);
    }

    #[test]
    fn a_warm_up_that_never_arrives_is_told() {
        let warning = |kind, warmup_steps, total_steps| {
            let schedule = Schedule {
                kind,
                learning_rate: 1e-3,
                warmup_steps,
                total_steps,
                ..Schedule::default()
            };
            schedule.warning()
        };
        assert_eq!(
            warning(SchedulerType::Linear, 2000, 4).unwrap(),
            "the warm-up takes 2000 steps and the run 4: the learning rate reaches only \
             1.50e-6 instead of 1e-3; set a smaller training.warmup_steps or warmup_ratio"
        );
        // warmup_ratio = 1 and max_steps = 1: a run with a learning rate of 0.
        let warned = warning(SchedulerType::ConstantWithWarmup, 1, 1).unwrap();
        assert!(warned.contains("reaches only 0 instead"), "{warned}");
        assert!(warning(SchedulerType::Cosine, 10, 10).is_some());
        assert_eq!(warning(SchedulerType::Cosine, 9, 10), None);
        assert_eq!(warning(SchedulerType::Linear, 0, 1), None);
    }

    #[test]
    fn kwargs_that_do_not_fit_the_type_are_named() {
        let error = |kind: SchedulerType, kwargs: SchedulerKwargs| {
            let schedule = Schedule {
                kind,
                kwargs,
                learning_rate: 1e-3,
                ..Schedule::default()
            };
            schedule.validate().unwrap_err().to_string()
        };
        let power = |power| SchedulerKwargs {
            power: Some(power),
            ..SchedulerKwargs::default()
        };
        assert_eq!(
            error(SchedulerType::Cosine, power(2.0)),
            "has power, but the keys of lr_scheduler_type \"cosine\" are num_cycles"
        );
        assert_eq!(
            error(SchedulerType::Linear, power(2.0)),
            "has power, but lr_scheduler_type \"linear\" takes no keys"
        );
        assert!(error(SchedulerType::Polynomial, power(-1.0)).contains("power = -1"));
        let end = SchedulerKwargs {
            lr_end: Some(0.1),
            ..SchedulerKwargs::default()
        };
        assert!(error(SchedulerType::Polynomial, end).contains("learning_rate 0.001"));
        let none = SchedulerKwargs::default();
        assert!(error(SchedulerType::CosineWithMinLr, none).contains("neither min_lr"));
    }

    #[test]
    fn the_cursor_starts_with_step_0_and_can_be_saved() {
        let schedule = Schedule {
            learning_rate: 2.0,
            total_steps: 4,
            ..Schedule::default()
        };
        let cursor = |ratio| ScheduleCursor {
            schedule,
            step: 0,
            ratio,
        };
        let mut first = cursor(1.0);
        assert_eq!([first.step(), first.step()], [2.0, 1.5]);
        let mut again = cursor(10.0);
        again.load_record(first.to_record());
        assert_eq!(again.step(), 10.0);
    }
}
