//! `metrics.jsonl`: one JSON object for each logged step or evaluation.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::files::write_atomically;
use crate::error::{Result, TrainError};
use crate::run::evaluate::Evaluation;
use crate::seeing::assessment::Assessment;
use crate::seeing::sample::Sample;
use crate::seeing::tensorboard::EventFile;

/// The name of the file in the output folder.
pub const METRICS_NAME: &str = "metrics.jsonl";

/// A logged step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainLog {
    /// The number of optimizer steps done.
    pub step: usize,
    /// The number of epochs done.
    pub epoch: f64,
    /// The mean of the losses of the steps since the last entry.
    pub loss: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The norm of the step's gradients together, before clipping.
    pub grad_norm: f64,
    /// Tokens per second since the last entry, without padding.
    pub tokens_per_second: f64,
    /// Tokens seen in the run, without padding.
    pub num_input_tokens_seen: usize,
    /// The most memory that the process has used, in bytes; null if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// With several ranks, the number of bytes that this one has passed to or received from
    /// exchanges; a resumed run continues the count of its checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchanged_bytes: Option<u64>,
    /// What the objective measures besides the loss, by name.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

/// An evaluation during a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalLog {
    /// The number of optimizer steps done.
    pub step: usize,
    /// The number of epochs done.
    pub epoch: f64,
    /// The metrics, by name with the prefix `eval_`.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// The time the evaluation took, in seconds.
    pub eval_runtime: f64,
}

impl EvalLog {
    /// The entry of an evaluation that took this many seconds.
    pub(crate) fn new(step: usize, epoch: f64, evaluation: &Evaluation, eval_runtime: f64) -> Self {
        let metrics = evaluation.metrics();
        Self {
            step,
            epoch,
            metrics: metrics
                .map(|(metric, value)| (metric.key(), value))
                .collect(),
            eval_runtime,
        }
    }

    /// The value of a metric, by its name without `eval_`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.get(&format!("eval_{name}")).copied()
    }
}

/// The continuation of a prompt at an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLog {
    /// The number of optimizer steps done.
    pub step: usize,
    /// The number of epochs done.
    pub epoch: f64,
    /// The prompt, if the run has several, or questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The continuation, without the prompt.
    pub sample: String,
}

/// The file, or nothing.
pub(crate) struct MetricsFile(Option<Open>);

/// The open file, with TensorBoard's beside it.
struct Open {
    file: File,
    path: PathBuf,
    events: EventFile,
}

impl MetricsFile {
    /// No file: another rank writes it.
    pub fn none() -> Self {
        Self(None)
    }

    /// A new file in the folder, replacing an existing one.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(METRICS_NAME);
        let file = File::create(&path).map_err(TrainError::io(&path))?;
        let events = EventFile::create(dir)?;
        Ok(Self(Some(Open { file, path, events })))
    }

    /// Writes the evaluation before the first step.
    pub fn write_before(&mut self, before: &Assessment) -> Result<()> {
        let (step, epoch) = (0, 0.0);
        if let Some(evaluation) = &before.evaluation {
            let runtime = before.runtime.unwrap_or_default();
            self.write(&EvalLog::new(step, epoch, evaluation, runtime))?;
        }
        self.write_samples(step, epoch, &before.samples)
    }

    /// Writes the samples of a step, a line for each.
    pub fn write_samples(&mut self, step: usize, epoch: f64, samples: &[Sample]) -> Result<()> {
        for Sample { prompt, text } in samples {
            self.write_line(&SampleLog {
                step,
                epoch,
                prompt: prompt.clone(),
                sample: text.clone(),
            })?;
        }
        // TensorBoard keeps one text for a step.
        let texts = samples.iter().map(|sample| match &sample.prompt {
            Some(prompt) => format!("{prompt}\n\n→ {}", sample.text),
            None => sample.text.clone(),
        });
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() {
            return Ok(());
        }
        let event = json!({ "step": step, "epoch": epoch, "sample": texts.join("\n\n") });
        match (event.as_object(), &mut self.0) {
            (Some(event), Some(open)) => open.events.write(event),
            _ => Ok(()),
        }
    }

    /// The file of a run that resumes after `step` in the folder `dir`: the lines up to then from
    /// the folder `from`; also returns the evaluations among them.
    pub fn resume(dir: &Path, from: &Path, step: usize) -> Result<(Self, Vec<EvalLog>)> {
        let before = from.join(METRICS_NAME);
        let text = if before.exists() {
            std::fs::read(&before).map_err(TrainError::io(&before))?
        } else {
            Vec::new()
        };
        // After a power cut, anything may follow the last flushed line.
        let text = String::from_utf8_lossy(&text);
        let (mut kept, mut evaluations) = (String::new(), Vec::new());
        for line in text.lines() {
            // The last line may be incomplete.
            let Ok(entry) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if entry["step"].as_u64().is_some_and(|at| at <= step as u64) {
                kept.push_str(line);
                kept.push('\n');
                evaluations.extend(serde_json::from_value::<EvalLog>(entry).ok());
            }
        }
        let path = dir.join(METRICS_NAME);
        write_atomically(&path, kept.as_bytes())?;
        let file = File::options().append(true).open(&path);
        let file = file.map_err(TrainError::io(&path))?;
        let events = EventFile::resume(dir, from, step)?;
        Ok((Self(Some(Open { file, path, events })), evaluations))
    }

    /// Flushes all lines to the disk.
    pub fn sync(&self) -> Result<()> {
        let Some(open) = &self.0 else {
            return Ok(());
        };
        open.file.sync_data().map_err(TrainError::io(&open.path))
    }

    /// Writes one line, here and to TensorBoard's file.
    pub fn write(&mut self, entry: &impl Serialize) -> Result<()> {
        match (self.write_line(entry)?, &mut self.0) {
            (Value::Object(entry), Some(open)) => open.events.write(&entry),
            _ => Ok(()),
        }
    }

    fn write_line(&mut self, entry: &impl Serialize) -> Result<Value> {
        let Some(open) = &mut self.0 else {
            return Ok(Value::Null);
        };
        let entry = serde_json::to_value(entry).map_err(std::io::Error::from);
        let written = entry.and_then(|entry| {
            // In one call, so that a reader never sees an incomplete line.
            open.file.write_all(format!("{entry}\n").as_bytes())?;
            open.file.flush()?;
            Ok(entry)
        });
        written.map_err(TrainError::io(&open.path))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_with_the_files_name() {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let events = EventFile::create(dir.path()).unwrap();
        let mut metrics = MetricsFile(Some(Open { file, path, events }));
        let error = metrics.write(&1).unwrap_err();
        assert!(error.to_string().starts_with("/dev/full: "), "{error}");
    }
}
