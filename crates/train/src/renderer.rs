//! What a run shows: a progress bar on a terminal, a line per logged step elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::metrics::{EPOCH, GRAD_NORM, LEARNING_RATE, LOSS, PEAK_MEMORY, TOKENS_PER_SECOND};

/// Shows Burn's training events.
pub struct ProgressRenderer {
    bar: ProgressBar,
    lines: Option<Box<dyn Write + Send + Sync>>,
    logging_steps: usize,
    total_steps: usize,
    step: usize,
    /// The steps that were done before this run, which may go on with another.
    before: Option<usize>,
    validating: bool,
    started: Instant,
    names: HashMap<MetricId, String>,
    /// What the bar says of the last step.
    numbers: String,
    /// The newest value of every metric by name.
    values: HashMap<String, f64>,
}

impl ProgressRenderer {
    /// A bar on standard error where that is a terminal, and lines on standard output where one
    /// of the two is none.
    pub fn new(logging_steps: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let lines = !terminal || !std::io::stdout().is_terminal();
        let target = match terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let lines = lines.then(|| Box::new(std::io::stdout()) as Box<dyn Write + Send + Sync>);
        Self::with(target, lines, logging_steps)
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self::with(ProgressDrawTarget::hidden(), None, usize::MAX)
    }

    /// Lines alone.
    pub fn to_writer(out: impl Write + Send + Sync + 'static, logging_steps: usize) -> Self {
        Self::with(
            ProgressDrawTarget::hidden(),
            Some(Box::new(out)),
            logging_steps,
        )
    }

    fn with(
        target: ProgressDrawTarget,
        lines: Option<Box<dyn Write + Send + Sync>>,
        logging_steps: usize,
    ) -> Self {
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  {eta} left");
        Self {
            bar: ProgressBar::with_draw_target(Some(0), target)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            lines,
            logging_steps,
            total_steps: 0,
            step: 0,
            before: None,
            validating: false,
            started: Instant::now(),
            names: HashMap::new(),
            numbers: String::new(),
            values: HashMap::new(),
        }
    }

    fn value(&self, name: &str) -> f64 {
        self.values.get(name).copied().unwrap_or(f64::NAN)
    }

    fn set(&mut self, state: MetricState) {
        if let MetricState::Numeric(entry, Some(value)) = state
            && let Some(name) = self.names.get(&entry.metric_id)
        {
            self.values.insert(name.clone(), value.current());
        }
    }

    fn print(&mut self, line: &str) {
        if let Some(out) = &mut self.lines {
            // A reader that went away (`| head`) must not end a run.
            writeln!(out, "{line}").and_then(|()| out.flush()).ok();
        }
    }

    fn time_left(&self) -> String {
        let done = self.step.saturating_sub(self.before.unwrap_or(0)).max(1) as f64;
        let left = self.total_steps.saturating_sub(self.step) as f64;
        clock(self.started.elapsed().mul_f64(left / done))
    }

    fn trained(&mut self, step: usize) {
        self.step = step;
        self.before.get_or_insert(step.saturating_sub(1));
        self.bar.set_position(step as u64);
        let memory = match self.value(PEAK_MEMORY) {
            known if known.is_finite() => format!("  {known:.2} GB"),
            _ => String::new(),
        };
        let numbers = format!(
            "loss {:.4}  learning_rate {:.2e}  grad_norm {:.3}  {:.0} tokens/s{memory}",
            self.value(LOSS),
            self.value(LEARNING_RATE),
            self.value(GRAD_NORM),
            self.value(TOKENS_PER_SECOND),
        );
        self.bar.set_message(numbers.clone());
        if step.is_multiple_of(self.logging_steps) || step == self.total_steps {
            let line = format!(
                "step {step}/{}  epoch {:.2}  {numbers}  {} left",
                self.total_steps,
                self.value(EPOCH),
                self.time_left(),
            );
            self.print(&line);
        }
        self.numbers = numbers;
    }
}

/// `1:02:03`, or `2:03` below an hour.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

impl TrainingProgressLogger for ProgressRenderer {
    fn start(
        &mut self,
        _epochs: usize,
        _first: usize,
        _items: Option<usize>,
        _label: Option<&str>,
    ) {
        self.started = Instant::now();
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.validating = split == "valid";
        if !self.validating {
            self.total_steps = total_items;
            self.bar.set_length(total_items as u64);
        }
    }

    fn update_split(&mut self, items_processed: usize) {
        match self.validating {
            true => self
                .bar
                .set_message(format!("evaluating {items_processed}")),
            false => self.trained(items_processed),
        }
    }

    fn end_split(&mut self) {
        if self.validating {
            let (step, total, loss) = (self.step, self.total_steps, self.value(LOSS));
            let perplexity = loss.exp();
            let line = format!(
                "step {step}/{total}  eval_loss {loss:.4}  eval_perplexity {perplexity:.2}"
            );
            self.bar.println(&line);
            self.bar.set_message(self.numbers.clone());
            self.print(&line);
        }
    }

    fn update_epoch(&mut self, _epoch: usize) {}

    fn end(&mut self) {
        match self.step == self.total_steps {
            true => self.bar.finish(),
            false => self.bar.abandon(),
        }
    }

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRendererTraining for ProgressRenderer {
    fn update_train(&mut self, state: MetricState) {
        self.set(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.set(state);
    }
}

impl MetricsRenderer for ProgressRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }
}

/// Burn asks every renderer to follow its `Evaluator` too, which is not used here.
impl MetricsRendererEvaluation for ProgressRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for ProgressRenderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}

    fn start_test(&mut self, _name: &str, _total_items: usize) {}

    fn update_test_progress(&mut self, _items_processed: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_clock() {
        let clock = |seconds| clock(Duration::from_secs(seconds));
        assert_eq!(
            [clock(5), clock(75), clock(3723)],
            ["0:05", "1:15", "1:02:03"]
        );
    }
}
