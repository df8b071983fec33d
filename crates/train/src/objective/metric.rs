//! The metrics of objectives: what they are called, how they are shown, and which one says which
//! model is the best.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{EnumAccess, Error, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::objective::lm;
use crate::seeing::numbers::number;

/// The measures of every objective there is.
pub(crate) static ALL: [&Measures; 1] = [&lm::MEASURES];

/// What an evaluation for an objective measures.
#[derive(Debug)]
pub struct Measures {
    /// What the loss is a mean over, in the singular: `token`, `example`, `pair`.
    pub unit: &'static str,
    /// What is added up beside the loss, as Burn's dashboard shows it.
    pub sums: &'static [&'static str],
    /// The metrics, of which the first is [the loss](Metric::loss).
    pub metrics: &'static [Metric],
}

/// What a report takes where it is told of no other.
impl Default for &'static Measures {
    fn default() -> Self {
        &lm::MEASURES
    }
}

/// One number that an evaluation finds.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name; `metrics.jsonl` has it behind `eval_`.
    pub name: &'static str,
    /// How a report calls it.
    pub title: &'static str,
    /// The head of its column, with its unit.
    pub heading: &'static str,
    /// Whether more of it is better.
    pub greater_is_better: bool,
    /// Its value, from the sums of an evaluation or from their means.
    pub of: fn(&Sums) -> f64,
    /// A value as people read it.
    pub text: fn(f64) -> String,
    /// The same in few digits.
    pub short: fn(f64) -> String,
}

impl Metric {
    /// The mean loss, which every objective has.
    pub const fn loss(heading: &'static str) -> Self {
        Self {
            name: "loss",
            title: "evaluation loss",
            heading,
            greater_is_better: false,
            of: Sums::mean_loss,
            text: |value| format!("{value:.4}"),
            short: |value| number(value, 3),
        }
    }

    /// Its name in `metrics.jsonl`.
    pub fn key(&self) -> String {
        format!("eval_{}", self.name)
    }
}

/// What an evaluation has added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// The losses.
    pub loss: f64,
    /// The [units](Measures::unit) they are of.
    pub count: usize,
    /// What [`Measures::sums`] names.
    pub sums: Vec<f64>,
}

impl Sums {
    /// Adds those of another batch.
    pub fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.count += other.count;
        self.sums.resize(other.sums.len(), 0.0);
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            *sum += other;
        }
    }

    /// The mean loss.
    pub fn mean_loss(&self) -> f64 {
        self.mean(self.loss)
    }

    /// The mean of one of the sums.
    pub fn mean(&self, sum: f64) -> f64 {
        sum / self.count.max(1) as f64
    }
}

/// `metric_for_best_model`: what an evaluation is judged by.
#[derive(Clone, Copy)]
pub struct BestMetric(&'static Metric);

impl BestMetric {
    /// Judges by a metric.
    pub const fn new(metric: &'static Metric) -> Self {
        Self(metric)
    }

    /// The metric.
    pub fn metric(self) -> &'static Metric {
        self.0
    }
}

impl Default for BestMetric {
    fn default() -> Self {
        Self(&lm::MEASURES.metrics[0])
    }
}

impl fmt::Debug for BestMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BestMetric({})", self.0.name)
    }
}

impl PartialEq for BestMetric {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for BestMetric {}

impl Serialize for BestMetric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

/// Every name that a metric has in a training file, with the metric.
static NAMES: LazyLock<Vec<(&'static str, &'static Metric)>> = LazyLock::new(|| {
    let metrics = ALL.iter().flat_map(|measures| measures.metrics);
    let mut names: Vec<(&'static str, &'static Metric)> = Vec::new();
    for metric in metrics {
        if names.iter().all(|(name, _)| *name != metric.name) {
            // Made once for the whole run of the program.
            names.push((String::leak(metric.key()), metric));
            names.push((metric.name, metric));
        }
    }
    names
});
static VARIANTS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| NAMES.iter().map(|(name, _)| *name).collect());

/// As serde reads an enum of all names.
impl<'de> Deserialize<'de> for BestMetric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = BestMetric;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("enum BestMetric")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<BestMetric, A::Error> {
                let (name, variant) = data.variant::<String>()?;
                variant.unit_variant()?;
                let found = NAMES.iter().find(|(known, _)| *known == name);
                let metric = found.map(|(_, metric)| BestMetric(metric));
                metric.ok_or_else(|| A::Error::unknown_variant(&name, &VARIANTS))
            }
        }

        deserializer.deserialize_enum("BestMetric", &VARIANTS, Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_either_name() {
        let read = |name: &str| serde_json::from_value::<BestMetric>(name.into());
        assert_eq!(read("loss").unwrap(), BestMetric::default());
        assert_eq!(read("eval_loss").unwrap(), BestMetric::default());
        let perplexity = read("eval_perplexity").unwrap();
        assert_eq!(serde_json::to_value(perplexity).unwrap(), "perplexity");
        assert_eq!(
            read("accuracy").unwrap_err().to_string(),
            "unknown variant `accuracy`, expected one of `eval_loss`, `loss`, `eval_perplexity`, \
             `perplexity`"
        );
    }

    #[test]
    fn sums_of_batches_are_sums_of_all() {
        let of = |loss, count, sum| Sums {
            loss,
            count,
            sums: vec![sum],
        };
        let mut all = Sums::default();
        assert_eq!(all.mean_loss(), 0.0);
        all.add(&of(2.0, 3, 1.0));
        all.add(&of(4.0, 1, 2.0));
        assert_eq!(all, of(6.0, 4, 3.0));
        assert_eq!((all.mean_loss(), all.mean(all.sums[0])), (1.5, 0.75));
    }
}
