//! What a run shows: terminal output, `metrics.jsonl`, TensorBoard, the report.

pub(crate) mod above_bar;
pub(crate) mod assessment;
pub(crate) mod card;
pub(crate) mod dashboard;
mod markdown;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod metrics_file;
pub(crate) mod numbers;
pub(crate) mod renderer;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod tensorboard;
