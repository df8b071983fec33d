//! What a run shows: a progress bar on a terminal, otherwise a line for each logged step.

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

use crate::objective::metric::{Measures, Sums};
use crate::seeing::above_bar::show;
use crate::seeing::metrics::{
    EPOCH, GRAD_NORM, LEARNING_RATE, LOSS, PEAK_MEMORY, TOKENS_PER_SECOND,
};
use crate::seeing::numbers::{clock, number, paragraph, speed, time_left};
use crate::seeing::sample::Samples;

/// Shows Burn's training events.
pub struct ProgressRenderer {
    bar: ProgressBar,
    /// The width of the bar's terminal in columns.
    columns: fn() -> usize,
    lines: Option<Box<dyn Write + Send + Sync>>,
    samples: Samples,
    logging_steps: usize,
    total_steps: usize,
    step: usize,
    /// The number of steps done before this run, if it is resumed.
    before: Option<usize>,
    /// Whether the run is over, so that no time remains.
    ended: bool,
    validating: bool,
    /// The number of examples in an evaluation.
    examples: usize,
    started: Instant,
    /// What an evaluation measures, and the means so far.
    measures: &'static Measures,
    means: Sums,
    /// When the evaluation began, and the time until its last batch.
    evaluation: (Instant, Duration),
    names: HashMap<MetricId, String>,
    /// The most recent value of every metric by name.
    values: HashMap<String, f64>,
}

impl ProgressRenderer {
    /// A bar on standard error if that is a terminal (and not `TERM=dumb`), with log lines above
    /// it; and lines on standard output if either of the two is not a terminal.
    pub fn new(logging_steps: usize) -> Self {
        // Hidden if standard error is not a terminal, or cannot move its cursor.
        let target = ProgressDrawTarget::stderr();
        let terminal = !target.is_hidden();
        let lines = !terminal || !std::io::stdout().is_terminal();
        let lines = lines.then(|| Box::new(std::io::stdout()) as Box<dyn Write + Send + Sync>);
        let renderer = Self::with(target, terminal_columns, lines, logging_steps);
        if terminal {
            show(Some(renderer.bar.clone()));
        }
        renderer
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        let target = ProgressDrawTarget::hidden();
        Self::with(target, || usize::MAX, None, usize::MAX)
    }

    /// Only lines.
    pub fn to_writer(out: impl Write + Send + Sync + 'static, logging_steps: usize) -> Self {
        let target = ProgressDrawTarget::hidden();
        Self::with(target, || usize::MAX, Some(Box::new(out)), logging_steps)
    }

    /// Also shows the samples that the run puts there.
    #[must_use]
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples = samples;
        self
    }

    /// Shows the metrics of an objective other than a language model's.
    #[must_use]
    pub fn with_measures(mut self, measures: &'static Measures) -> Self {
        self.measures = measures;
        self
    }

    fn with(
        target: ProgressDrawTarget,
        columns: fn() -> usize,
        lines: Option<Box<dyn Write + Send + Sync>>,
        logging_steps: usize,
    ) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // What does not fit is cut off: a line that wraps would stay on the screen.
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self {
            bar,
            columns,
            lines,
            samples: Samples::default(),
            logging_steps,
            total_steps: 0,
            step: 0,
            before: None,
            ended: false,
            validating: false,
            examples: 0,
            started: now,
            measures: Default::default(),
            means: unknown(),
            evaluation: (now, Duration::ZERO),
            names: HashMap::new(),
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

    /// Prints a line to standard output, or else above the bar.
    fn print(&mut self, line: &str) {
        match &mut self.lines {
            // A reader that closes the pipe (`| head`) must not end a run.
            Some(out) => drop(writeln!(out, "{line}").and_then(|()| out.flush())),
            None => self.bar.println(line),
        }
    }

    /// The width of a line in columns, if it is limited.
    fn line_columns(&self) -> Option<usize> {
        self.lines.is_none().then(self.columns)
    }

    fn time_left(&self) -> String {
        let done = self.step.saturating_sub(self.before.unwrap_or(0)).max(1) as f64;
        let left = self.total_steps.saturating_sub(self.step) as f64;
        let time = self.started.elapsed().mul_f64(left / done);
        time_left(time)
    }

    /// What is known about the last step, as much as fits into this many columns.
    fn numbers(&self, columns: usize) -> String {
        let memory = self.value(PEAK_MEMORY);
        // The number before each field is its rank for being left out: the highest goes first.
        let fields = [
            (3, format!("epoch {:.2}", self.value(EPOCH))),
            (0, format!("loss {:.4}", self.value(LOSS))),
            (
                4,
                format!("learning_rate {}", number(self.value(LEARNING_RATE), 3)),
            ),
            (5, format!("grad_norm {:.3}", self.value(GRAD_NORM))),
            (2, speed(self.value(TOKENS_PER_SECOND))),
            (
                6,
                if memory.is_finite() {
                    format!("{memory:.2} GB")
                } else {
                    String::new()
                },
            ),
            (
                1,
                if self.ended {
                    String::new()
                } else {
                    self.time_left()
                },
            ),
        ];
        fitted(
            fields
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .collect(),
            columns,
        )
    }

    /// Draws the bar, followed by what fits into this many columns.
    fn draw(&self, behind: impl Fn(usize) -> String) {
        let columns = (self.columns)();
        let count = format!("{}/{}", self.step, self.total_steps);
        let bar = match columns {
            0..50 => String::new(),
            _ => drawn(self.step, self.total_steps, (columns / 5).min(24)) + " ",
        };
        let before = format!("{bar}{count}  ");
        let room = columns.saturating_sub(before.chars().count());
        self.bar.set_message(before + &behind(room));
    }

    fn trained(&mut self, step: usize) {
        self.step = step;
        self.before.get_or_insert(step.saturating_sub(1));
        self.draw(|room| self.numbers(room));
        if step.is_multiple_of(self.logging_steps) || step == self.total_steps {
            let label = format!("step {step}/{}  ", self.total_steps);
            let room = self.line_columns().unwrap_or(usize::MAX);
            let numbers = self.numbers(room.saturating_sub(label.len()));
            self.print(&(label + &numbers));
        }
    }

    fn evaluated(&mut self) {
        let label = format!("step {}/{}  ", self.step, self.total_steps);
        let metrics = self.measures.metrics.iter().enumerate();
        // Not all metrics consist of means.
        let metrics = metrics.filter_map(|(index, metric)| {
            let value = (metric.of)(&self.means);
            let is_known = index == 0 || !value.is_nan();
            is_known.then(|| format!("{} {}", metric.key(), (metric.text)(value)))
        });
        let fields = metrics.chain([format!("in {}", clock(self.evaluation.1))]);
        let fields = (0..).zip(fields).collect();
        let room = self.line_columns().unwrap_or(usize::MAX);
        let numbers = fitted(fields, room.saturating_sub(label.len()));
        self.print(&(label + &numbers));
        // The memory of the last step is shown with the result.
        let samples = self.samples.take();
        if self.step == self.total_steps {
            return;
        }
        for sample in samples {
            let sample = paragraph("  sample: ", &sample, self.line_columns());
            self.print(&sample);
        }
    }
}

/// The means of an evaluation before its first batch.
fn unknown() -> Sums {
    Sums {
        loss: f64::NAN,
        count: 1,
        sums: Vec::new(),
        ..Sums::default()
    }
}

/// The width of the terminal on standard error, in columns.
fn terminal_columns() -> usize {
    console::Term::stderr().size().1.into()
}

/// A bar of this many columns.
fn drawn(done: usize, of: usize, columns: usize) -> String {
    let full = columns * done.min(of) / of.max(1);
    "█".repeat(full) + &"░".repeat(columns - full)
}

/// The fields side by side, without the highest-ranked ones until they fit.
fn fitted(mut fields: Vec<(u8, String)>, columns: usize) -> String {
    loop {
        let texts: Vec<&str> = fields.iter().map(|(_, text)| text.as_str()).collect();
        let line = texts.join("  ");
        let last = fields.iter().map(|(turn, _)| *turn).max();
        if fields.len() < 2 || line.chars().count() <= columns {
            return line;
        }
        fields.retain(|(turn, _)| Some(*turn) != last);
    }
}

impl Drop for ProgressRenderer {
    fn drop(&mut self) {
        if !self.bar.is_hidden() {
            // A run that fails does not come to its end.
            self.bar.abandon();
            show(None);
        }
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
        if self.validating {
            self.evaluation = (Instant::now(), Duration::ZERO);
            self.examples = total_items;
        } else {
            self.total_steps = total_items;
        }
    }

    fn update_split(&mut self, items_processed: usize) {
        if !self.validating {
            return self.trained(items_processed);
        }
        self.evaluation.1 = self.evaluation.0.elapsed();
        let text = format!("evaluating {items_processed}/{}", self.examples);
        self.draw(|_| text.clone());
    }

    fn end_split(&mut self) {
        if self.validating {
            self.evaluated();
            self.draw(|room| self.numbers(room));
        }
    }

    fn update_epoch(&mut self, _epoch: usize) {}

    fn end(&mut self) {
        self.ended = true;
        if self.before.is_some() {
            self.draw(|room| self.numbers(room));
        }
        self.bar.abandon();
    }

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRendererTraining for ProgressRenderer {
    fn update_train(&mut self, state: MetricState) {
        self.set(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        let MetricState::Numeric(entry, Some(value)) = state else {
            return;
        };
        let name = self.names.get(&entry.metric_id).map(String::as_str);
        let mut sums = self.measures.sums.iter();
        match sums.position(|sum| Some(*sum) == name) {
            Some(index) => {
                self.means.sums.resize(self.measures.sums.len(), f64::NAN);
                self.means.sums[index] = value.current();
            }
            None => self.means.loss = value.current(),
        }
    }
}

impl MetricsRenderer for ProgressRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }
}

/// Burn requires every renderer to handle its `Evaluator` too, which is not used here.
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
#[path = "renderer_tests.rs"]
mod tests;
