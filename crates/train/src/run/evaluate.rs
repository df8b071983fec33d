//! The evaluation of a model.

use std::fmt;

use burn::module::Module;
use burn_peft::parameters::thousands;
use burn_peft_data::{Batch, DataError, EmptyProblem, Examples, Lm, Sampler};
use burn_peft_models::CausalLm;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::exchange::{Alone, Exchange};
use crate::objective::Objective;
use crate::objective::metric::{Measures, Metric, Sums};

/// The result of an evaluation: a value for each metric of its objective.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// What was measured.
    pub measures: &'static Measures,
    /// The sums over all batches, from which the metrics are computed.
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

    /// The metrics by name, and the number that the loss is a mean over, named by its unit:
    /// `tokens`.
    pub fn to_json(&self) -> Map<String, Value> {
        let metrics = self.metrics();
        let metrics = metrics.map(|(metric, value)| (metric.name.to_string(), value.into()));
        let count = (format!("{}s", self.measures.unit), self.count().into());
        metrics.chain([count]).collect()
    }

    /// The number of [units](Measures::unit) that the loss is a mean over: for a language model,
    /// the supervised tokens.
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
/// `progress` is called with the number of examples done and the number of all examples.
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
    progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    evaluate_shared(&Alone, objective, model, examples, batch_size, progress)
}

/// As [`evaluate_with`], with the batches shared out among ranks. All ranks return the same result,
/// which is that of a single process to the last bit.
///
/// # Errors
/// As [`evaluate`], or if a rank cannot be reached.
pub fn evaluate_shared<M: Module>(
    exchange: &dyn Exchange,
    objective: &dyn Objective<M>,
    model: &M,
    examples: &Examples,
    batch_size: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Evaluation> {
    let model = model.valid();
    let mut done = 0;
    let mut shared = SharedSums::new(exchange);
    for indices in Sampler::new(examples.sequences(), batch_size, 0, false)?.batches(0) {
        shared.of_next(|| objective.measure(&model, &batch(examples, &indices)?))?;
        let of_batch = indices.iter().map(|&index| examples.examples_in(index));
        done += of_batch.sum::<usize>();
        progress(done, examples.len());
    }
    let (each, _) = shared.of_each(false)?;
    let mut sums = Sums::default();
    each.iter().for_each(|of_batch| sums.add(of_batch));
    objective.finish(&model, &mut sums)?;
    let measures = objective.measures();
    Ok(Evaluation { measures, sums })
}

/// The measurements of batches that are shared out among ranks.
pub(crate) struct SharedSums<'a> {
    exchange: &'a dyn Exchange,
    batches: usize,
    /// Those of this rank's batches.
    own: Vec<Sums>,
}

impl<'a> SharedSums<'a> {
    pub fn new(exchange: &'a dyn Exchange) -> Self {
        Self {
            exchange,
            batches: 0,
            own: Vec::new(),
        }
    }

    /// Measures the next batch if it is this rank's, and returns its sums.
    pub fn of_next(&mut self, measure: impl FnOnce() -> Result<Sums>) -> Result<Option<&Sums>> {
        let of = self.batches % self.exchange.size();
        self.batches += 1;
        if of != self.exchange.rank() {
            return Ok(None);
        }
        self.own.push(measure()?);
        Ok(self.own.last())
    }

    /// Returns what any rank has measured of each batch, in the order of the batches: added up in
    /// this order, it is what one process finds, to the last bit. Also returns whether any rank was
    /// told to stop; some batches may be missing then.
    pub fn of_each(self, told_to_stop: bool) -> Result<(Vec<Sums>, bool)> {
        if self.exchange.size() == 1 {
            return Ok((self.own, told_to_stop));
        }
        let mut own = vec![f64::from(u8::from(told_to_stop))];
        own.extend(self.own.iter().flat_map(Sums::to_numbers));
        let own = own.into_iter().flat_map(f64::to_le_bytes).collect();
        let mut is_told = false;
        let mut all = Vec::new();
        for bytes in self.exchange.gather(own)? {
            let (numbers, _) = bytes.as_chunks::<8>();
            let mut numbers = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes));
            is_told |= numbers.next() == Some(1.0);
            let of_rank = std::iter::from_fn(|| Sums::of_numbers(&mut numbers));
            all.push(of_rank.collect::<Vec<_>>().into_iter());
        }
        let batches = 0..self.batches;
        let each = batches.filter_map(|batch| all[batch % self.exchange.size()].next());
        Ok((each.collect(), is_told))
    }
}

/// Makes a batch of some sequences.
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
