//! What an evaluation finds of a model.

use std::fmt;

use burn::module::Module;
use burn_peft::parameters::thousands;
use burn_peft_data::{Batch, DataError, EmptyProblem, Examples, Lm, Sampler};
use burn_peft_models::CausalLm;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::objective::Objective;
use crate::objective::metric::{Measures, Metric, Sums};

/// What an evaluation has found: a value for each metric of its objective.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// What was measured.
    pub measures: &'static Measures,
    /// What was added up.
    pub sums: Sums,
}

impl Evaluation {
    /// The metrics with their values.
    pub fn metrics(&self) -> impl Iterator<Item = (&'static Metric, f64)> + '_ {
        let metrics = self.measures.metrics.iter();
        metrics.map(|metric| (metric, (metric.of)(&self.sums)))
    }

    /// The value of a metric, if it was measured.
    pub fn get(&self, name: &str) -> Option<f64> {
        let mut metrics = self.metrics();
        metrics.find_map(|(metric, value)| (metric.name == name).then_some(value))
    }

    /// The mean loss.
    pub fn loss(&self) -> f64 {
        self.sums.mean_loss()
    }

    /// The metrics in a line: `loss 3.2121  perplexity 24.83`.
    pub fn numbers(&self) -> String {
        let metrics = self.metrics();
        let metrics =
            metrics.map(|(metric, value)| format!("{} {}", metric.name, (metric.text)(value)));
        metrics.collect::<Vec<_>>().join("  ")
    }

    /// The metrics by their names, and what the loss is a mean over by its unit: `tokens`.
    pub fn to_json(&self) -> Map<String, Value> {
        let metrics = self.metrics();
        let metrics = metrics.map(|(metric, value)| (metric.name.to_string(), value.into()));
        let count = (format!("{}s", self.measures.unit), self.count().into());
        metrics.chain([count]).collect()
    }

    /// What the loss is a mean over, in [units](Measures::unit): of a language model, its supervised
    /// tokens.
    pub fn count(&self) -> usize {
        self.sums.count
    }
}

/// `loss 3.2121  perplexity 24.83  (5,120 tokens)`
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = (thousands(self.count()), self.measures.unit);
        write!(f, "{}  ({count} {unit}s)", self.numbers())
    }
}

/// The same measures, and the same sums.
impl PartialEq for Evaluation {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.measures, other.measures) && self.sums == other.sums
    }
}

/// Evaluates a language model, without dropout and without gradients.
///
/// `progress` hears how many examples are done, of how many.
///
/// # Errors
/// If `batch_size` is 0, if a batch has no tokens, or if the device fails.
pub fn evaluate<M: CausalLm>(
    model: &M,
    examples: &Examples,
    batch_size: usize,
    progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    evaluate_with(&Lm, model, examples, batch_size, progress)
}

/// As [`evaluate`], for an objective.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_with<M: Module>(
    objective: &dyn Objective<M>,
    model: &M,
    examples: &Examples,
    batch_size: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    let model = model.valid();
    let mut sums = Sums::default();
    let mut done = 0;
    for indices in Sampler::new(examples.sequences(), batch_size, 0, false)?.batches(0) {
        let batch = batch(examples, &indices)?;
        sums.add(&objective.measure(&model, &batch)?);
        done += batch.rows.len();
        progress(done, examples.len());
    }
    let measures = objective.measures();
    Ok(Evaluation { measures, sums })
}

/// Some sequences as a batch.
///
/// # Errors
/// If they have no tokens.
pub(crate) fn batch(examples: &Examples, indices: &[usize]) -> Result<Batch> {
    let batch = examples.batch(indices);
    if batch.tokens() == 0 {
        let (file, problem) = (examples.file.clone(), EmptyProblem::Tokens);
        return Err(DataError::Empty { file, problem }.into());
    }
    Ok(batch)
}
