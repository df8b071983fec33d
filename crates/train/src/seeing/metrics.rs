//! The numbers of a step as Burn's metrics.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::logger::MetricLogger;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{
    Metric, MetricAttributes, MetricDefinition, MetricMetadata, MetricName, Numeric,
    NumericAttributes, NumericEntry, SerializedEntry,
};

/// What the metrics of a step, or of a batch of an evaluation, show.
#[derive(Clone, Debug, Default)]
pub struct StepMetrics {
    /// The mean loss; in training over the steps since the last log entry, as transformers logs it.
    pub loss: f64,
    /// The weight of the loss in the mean.
    pub count: usize,
    /// The means of the sums that an evaluation computes besides the loss.
    pub means: Vec<f64>,
    /// The number of epochs done.
    pub epoch: f64,
    /// The norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Tokens per second since the last log entry.
    pub tokens_per_second: f64,
    /// The most memory that the process has used, in bytes; NaN if unknown.
    pub peak_memory: f64,
}

/// One of the numbers of a step.
#[derive(Clone)]
pub struct StepMetric {
    name: MetricName,
    value: Arc<dyn Fn(&StepMetrics) -> f64 + Send + Sync>,
    higher_is_better: bool,
    state: NumericMetricState,
}

/// The name of the loss, which is also that of Burn's own loss metric.
pub const LOSS: &str = "Loss";
/// The name of Burn's metric for the learning rate.
pub const LEARNING_RATE: &str = "Learning Rate";
/// The name of the number of epochs done.
pub const EPOCH: &str = "Epoch";
/// The name of the gradients' norm.
pub const GRAD_NORM: &str = "Gradient Norm";
/// The name of the speed.
pub const TOKENS_PER_SECOND: &str = "Tokens per Second";
/// The name of the most memory used.
pub const PEAK_MEMORY: &str = "Peak Memory (GB)";

impl StepMetric {
    fn new(
        name: &str,
        higher_is_better: bool,
        value: impl Fn(&StepMetrics) -> f64 + Send + Sync + 'static,
    ) -> Self {
        let state = NumericMetricState::new();
        Self {
            name: Arc::new(name.to_string()),
            value: Arc::new(value),
            higher_is_better,
            state,
        }
    }

    /// The mean loss.
    pub fn loss() -> Self {
        Self::new(LOSS, false, |step| step.loss)
    }

    /// The mean of one of the sums of an evaluation.
    pub fn mean(name: &str, index: usize) -> Self {
        let mean = move |step: &StepMetrics| step.means.get(index).copied();
        Self::new(name, true, move |step| mean(step).unwrap_or(f64::NAN))
    }

    /// The number of epochs done.
    pub fn epoch() -> Self {
        Self::new(EPOCH, true, |step| step.epoch)
    }

    /// The norm of all gradients together, before clipping.
    pub fn grad_norm() -> Self {
        Self::new(GRAD_NORM, false, |step| step.grad_norm)
    }

    /// Tokens per second.
    pub fn tokens_per_second() -> Self {
        Self::new(TOKENS_PER_SECOND, true, |step| step.tokens_per_second)
    }

    /// The most memory that the process has used, in gigabytes.
    pub fn peak_memory() -> Self {
        Self::new(PEAK_MEMORY, false, |step| step.peak_memory / 1e9)
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(4)
    }
}

impl Metric for StepMetric {
    type Input = StepMetrics;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(
        &mut self,
        step: &StepMetrics,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update((self.value)(step), step.count);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

/// Keeps Burn from writing a folder of files for each metric: the strategy writes `metrics.jsonl`,
/// where a full disk can stop the run.
pub(crate) struct NoFiles;

impl MetricLogger for NoFiles {
    fn log(&mut self, _update: MetricsUpdate, _epoch: usize, _split: &Split) {}

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
