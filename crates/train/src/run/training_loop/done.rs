//! Finished steps: how their numbers are read, shown and written down.

use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::tensor::Tensor;
use burn::train::{LearnerEvent, TrainingItem};
use burn_peft_models::is_gpu;

use super::Run;
use crate::error::Result;
use crate::objective::metric::Sums;
use crate::objective::read_all;
use crate::run::state::Window;
use crate::run::step::StepOutput;
use crate::run::target::TrainTarget;
use crate::seeing::memory::peak_memory_bytes;
use crate::seeing::metrics::StepMetrics;
use crate::seeing::metrics_file::TrainLog;

/// The most steps whose numbers wait on a GPU: a loss that is not finite is noticed this many steps
/// later at most.
const MOST: usize = 50;

/// A finished step.
pub(super) struct Done {
    pub step: usize,
    pub epoch: f64,
    pub learning_rate: ModuleLearningRate,
    pub mean_loss: Tensor<1>,
    pub numbers: Numbers,
    /// The sum of its batches' `Objective::count`.
    pub count: usize,
    pub tokens: usize,
    /// Its rows, and their file.
    pub rows: (String, String),
    pub seconds: f64,
}

/// The numbers of a step.
// At most fifty are kept, and on a GPU all of them are tensors.
#[allow(clippy::large_enum_variant)]
pub(super) enum Numbers {
    /// The mean loss, the norm of the gradients if there is one, and what else was measured, one
    /// after the other.
    OnDevice {
        numbers: Tensor<1>,
        has_norm: bool,
    },
    Read(Read),
}

/// The numbers of a step, on the host.
pub(super) struct Read {
    pub loss: f64,
    pub grad_norm: f64,
    pub sums: Vec<f64>,
}

impl Numbers {
    /// Reads the numbers, which waits for the device.
    pub fn read(self) -> Result<Read> {
        match self {
            Self::OnDevice { numbers, has_norm } => Ok(Read::of(&read_all(numbers)?, has_norm)),
            Self::Read(read) => Ok(read),
        }
    }
}

impl Read {
    fn of(numbers: &[f64], has_norm: bool) -> Self {
        let number = |index: usize| numbers.get(index).copied();
        Self {
            loss: number(0).unwrap_or(f64::NAN),
            grad_norm: if has_norm {
                number(1).unwrap_or(f64::NAN)
            } else {
                0.0
            },
            sums: numbers
                .iter()
                .skip(1 + usize::from(has_norm))
                .copied()
                .collect(),
        }
    }
}

impl<T: TrainTarget> Run<'_, T> {
    /// Whether numbers can be read late: from a GPU, which continues to work while the host does.
    /// Several ranks need their numbers in every step.
    pub(super) fn reads_late(&self) -> bool {
        let device = self.learner.model().model.device();
        self.strategy.exchange.size() == 1 && (is_gpu(&device) || is_forced())
    }

    /// Whether it is time to read the numbers of the steps that are done.
    pub(super) fn settles(&self) -> bool {
        let state = &self.record.state;
        let ends = state.epoch_ended() || self.is_logged(state.global_step);
        ends || !self.is_late || self.done.len() >= MOST
    }

    /// Whether the step is one to write down.
    fn is_logged(&self, step: usize) -> bool {
        step.is_multiple_of(self.arguments.logging_steps) || step == self.steps.total
    }

    /// Reads the numbers of all finished steps, shows them, and logs those that are due.
    pub(super) fn settle(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut done = std::mem::take(&mut self.done);
        let on_device = done.iter().filter_map(|done| match &done.numbers {
            Numbers::OnDevice { numbers, .. } => Some(numbers.clone()),
            Numbers::Read(_) => None,
        });
        let on_device: Vec<Tensor<1>> = on_device.collect();
        if !on_device.is_empty() {
            let all = read_all(Tensor::cat(on_device, 0))?;
            let mut left = &all[..];
            for done in &mut done {
                if let Numbers::OnDevice { numbers, has_norm } = &done.numbers {
                    let (own, rest) = left.split_at(numbers.dims()[0].min(left.len()));
                    left = rest;
                    done.numbers = Numbers::Read(Read::of(own, *has_norm));
                }
            }
        }
        // The time that the device still needed for all of these steps, which their own times leave
        // out.
        let wait = started.elapsed().as_secs_f64() / done.len().max(1) as f64;
        for done in &mut done {
            done.seconds += wait;
        }
        #[cfg(test)]
        forced::note(done.len());
        for done in done {
            self.write_down(done)?;
        }
        Ok(())
    }

    /// Counts a step, shows it, and logs it if it is due.
    fn write_down(&mut self, done: Done) -> Result<()> {
        let Read {
            loss,
            grad_norm,
            sums,
        } = done.numbers.read()?;
        self.check_finite("loss", loss, &done.rows, done.step)?;
        self.check_finite("gradient norm", grad_norm, &done.rows, done.step)?;
        let state = &mut self.record.state;
        state.count(loss, done.tokens, done.seconds);
        state.since_log.measured.add(&Sums {
            loss: loss * done.count as f64,
            count: done.count,
            sums,
            ..Sums::default()
        });
        let exchange = &self.strategy.exchange;
        if let Some(deviations) = state.trend.observe(loss)
            && exchange.is_first()
        {
            tracing::warn!(
                "the loss of step {} is {loss:.4}, {deviations:.1} standard deviations above its \
                 running mean; rows {} of {}",
                done.step,
                done.rows.0,
                done.rows.1
            );
        }
        let state = &self.record.state;
        let measures = self.strategy.objective.measures();
        let entry = TrainLog {
            step: done.step,
            epoch: done.epoch,
            loss: state.since_log.mean_loss(),
            learning_rate: done.learning_rate.base(),
            grad_norm,
            tokens_per_second: state.since_log.tokens_per_second(),
            num_input_tokens_seen: state.num_input_tokens_seen,
            peak_memory_bytes: peak_memory_bytes(&done.mean_loss.device()),
            exchanged_bytes: (exchange.size() > 1).then(|| exchange.bytes()),
            metrics: measures.of_step(&state.since_log.measured),
        };
        let measured = &state.since_log.measured;
        let means = measured.sums.iter().map(|&sum| measured.mean(sum));
        let metrics = StepMetrics {
            loss: entry.loss,
            count: 1,
            means: means.collect(),
            epoch: entry.epoch,
            grad_norm,
            tokens_per_second: entry.tokens_per_second,
            peak_memory: entry
                .peak_memory_bytes
                .map_or(f64::NAN, |bytes| bytes as f64),
        };
        if self.is_logged(done.step) {
            self.record.metrics.write(&entry)?;
            self.record.state.since_log = Window::default();
        }
        let progress = Progress::new(done.step, self.steps.total, Some("steps".into()));
        self.emit(LearnerEvent::ProcessedItem(TrainingItem::new(
            StepOutput {
                loss: Some(done.mean_loss),
                sums: None,
                metrics,
            },
            progress,
            Some(done.step),
            Some(done.learning_rate),
        )));
        Ok(())
    }
}

/// Whether a test reads numbers late on the CPU too.
fn is_forced() -> bool {
    #[cfg(test)]
    return forced::is_on();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
pub(crate) mod forced {
    use std::cell::Cell;

    thread_local! {
        /// The most steps whose numbers were read together, while they are read late on this thread.
        static MOST_READ: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(super) fn is_on() -> bool {
        MOST_READ.get().is_some()
    }

    pub(super) fn note(steps: usize) {
        MOST_READ.set(MOST_READ.get().map(|most| most.max(steps)));
    }

    /// Reads numbers late in runs on this thread; returns the most steps that were read together.
    pub(crate) fn late<R>(run: impl FnOnce() -> R) -> (R, usize) {
        MOST_READ.set(Some(0));
        let result = run();
        (result, MOST_READ.take().unwrap_or(0))
    }
}
