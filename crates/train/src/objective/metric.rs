//! The metrics of objectives: their names, and how they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::seeing::numbers::number;

/// What an evaluation for an objective measures.
#[derive(Debug)]
pub struct Measures {
    /// What the loss is a mean over, in the singular: `token`, `example`, `pair`.
    pub unit: &'static str,
    /// The sums computed besides the loss, with their names in Burn's dashboard.
    pub sums: &'static [&'static str],
    /// The metrics; the first one is [the loss](Metric::loss).
    pub metrics: &'static [Metric],
}

/// A number computed by an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, which has the prefix `eval_` in `metrics.jsonl`.
    pub name: &'static str,
    /// Its name in a report.
    pub title: &'static str,
    /// The heading of its column, with the unit.
    pub heading: &'static str,
    /// Whether higher is better.
    pub greater_is_better: bool,
    /// Its value, from the sums of an evaluation or from their means.
    pub of: fn(&Sums) -> f64,
    /// Formats a value for people.
    pub text: fn(f64) -> String,
    /// The same in fewer digits.
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

    /// A mean of one of the [sums](Measures::sums), with four decimals.
    pub const fn mean(
        name: &'static str,
        title: &'static str,
        greater_is_better: bool,
        of: fn(&Sums) -> f64,
    ) -> Self {
        Self {
            name,
            title,
            heading: title,
            greater_is_better,
            of,
            text: |value| format!("{value:.4}"),
            short: |value| number(value, 3),
        }
    }

    /// Its name in `metrics.jsonl`.
    pub fn key(&self) -> String {
        format!("eval_{}", self.name)
    }
}

/// The sums of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// The sum of the losses.
    pub loss: f64,
    /// The number of [units](Measures::unit).
    pub count: usize,
    /// The divisor of the mean loss, if it is not the number of units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The sums that [`Measures::sums`] names.
    pub sums: Vec<f64>,
    /// Pairs of predicted and true values, for metrics that need all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<[f64; 2]>,
    /// The vectors of texts, until [`finish`](crate::Objective::finish) has evaluated them.
    #[serde(default, skip_serializing_if = "Vectors::is_empty")]
    pub vectors: Vectors,
}

/// One of the [sums](Sums::sums); NaN if it is not there.
pub(crate) fn sum(sums: &Sums, index: usize) -> f64 {
    sums.sums.get(index).copied().unwrap_or(f64::NAN)
}

/// Vectors of texts, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vectors {
    /// Their dimension.
    pub d: usize,
    /// Ids that tell different texts apart, `[texts]`.
    pub keys: Vec<u64>,
    /// The values, `[texts * d]`.
    pub values: Vec<f32>,
}

impl Vectors {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends further vectors.
    pub fn extend(&mut self, other: &Self) {
        self.d = self.d.max(other.d);
        self.keys.extend(&other.keys);
        self.values.extend(&other.values);
    }
}

impl Measures {
    /// The metrics of a training step besides its loss, by name; none if `sums` has none.
    pub(crate) fn of_step(&self, sums: &Sums) -> BTreeMap<String, f64> {
        let metrics = self
            .metrics
            .iter()
            .skip(1)
            .filter(|_| !sums.sums.is_empty());
        let values = metrics.map(|metric| (metric.name.to_string(), (metric.of)(sums)));
        values.filter(|(_, value)| value.is_finite()).collect()
    }
}

impl Sums {
    /// Adds the sums of another batch.
    pub fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.count += other.count;
        if let Some(weight) = other.weight {
            *self.weight.get_or_insert_default() += weight;
        }
        self.sums.resize(other.sums.len(), 0.0);
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            *sum += other;
        }
        self.pairs.extend(&other.pairs);
        self.vectors.extend(&other.vectors);
    }

    /// Everything as numbers, for another process.
    pub(crate) fn to_numbers(&self) -> Vec<f64> {
        let mut numbers = vec![
            self.loss,
            self.count as f64,
            // NaN stands for no weight.
            self.weight.unwrap_or(f64::NAN),
            self.sums.len() as f64,
            self.pairs.len() as f64,
            self.vectors.keys.len() as f64,
            self.vectors.d as f64,
        ];
        numbers.extend(&self.sums);
        numbers.extend(self.pairs.as_flattened());
        numbers.extend(self.vectors.keys.iter().map(|&key| f64::from_bits(key)));
        numbers.extend(self.vectors.values.iter().map(|&value| f64::from(value)));
        numbers
    }

    /// Reads what [`to_numbers`](Self::to_numbers) has written; `None` at the end.
    pub(crate) fn of_numbers(numbers: &mut impl Iterator<Item = f64>) -> Option<Self> {
        let loss = numbers.next()?;
        let mut next = || numbers.next().unwrap_or_default();
        let (count, weight) = (next() as usize, next());
        let (sums, pairs) = (next() as usize, next() as usize);
        let (texts, d) = (next() as usize, next() as usize);
        Some(Self {
            loss,
            count,
            weight: Some(weight).filter(|weight| !weight.is_nan()),
            sums: (0..sums).map(|_| next()).collect(),
            pairs: (0..pairs).map(|_| [next(), next()]).collect(),
            vectors: Vectors {
                d,
                keys: (0..texts).map(|_| next().to_bits()).collect(),
                values: (0..texts * d).map(|_| next() as f32).collect(),
            },
        })
    }

    /// The mean loss.
    pub fn mean_loss(&self) -> f64 {
        match self.weight {
            Some(weight) if weight > 0.0 => self.loss / weight,
            _ => self.mean(self.loss),
        }
    }

    /// The mean of one of the sums.
    pub fn mean(&self, sum: f64) -> f64 {
        sum / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_batches_are_sums_of_all() {
        let of = |loss, count, sum| Sums {
            loss,
            count,
            sums: vec![sum],
            pairs: vec![[sum, 1.0]],
            ..Sums::default()
        };
        let mut all = Sums::default();
        assert_eq!(all.mean_loss(), 0.0);
        all.add(&of(2.0, 3, 1.0));
        all.add(&of(4.0, 1, 2.0));
        assert_eq!(all.pairs, [[1.0, 1.0], [2.0, 1.0]]);
        all.pairs = of(6.0, 4, 3.0).pairs;
        assert_eq!(all, of(6.0, 4, 3.0));
        assert_eq!((all.mean_loss(), all.mean(all.sums[0])), (1.5, 0.75));
        let weighty = |weight| Sums {
            weight: Some(weight),
            ..of(3.0, 1, 0.0)
        };
        let numbers = [of(1.0, 2, 3.0), weighty(0.5)].map(|sums| sums.to_numbers());
        let mut numbers = numbers.concat().into_iter();
        assert_eq!(Sums::of_numbers(&mut numbers), Some(of(1.0, 2, 3.0)));
        assert_eq!(Sums::of_numbers(&mut numbers), Some(weighty(0.5)));
        assert_eq!(Sums::of_numbers(&mut numbers), None);
        let mut with_vectors = of(1.0, 2, 3.0);
        with_vectors.vectors = Vectors {
            d: 2,
            keys: vec![3, u64::MAX - 7],
            values: vec![0.1, 0.2, 0.3, 0.4],
        };
        let mut numbers = with_vectors.to_numbers().into_iter();
        assert_eq!(Sums::of_numbers(&mut numbers), Some(with_vectors));
        let mut all = weighty(0.5);
        all.add(&weighty(1.0));
        assert_eq!(all.mean_loss(), 4.0);
    }
}
