//! The results of a classifier for each label.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The most labels for which confusions are counted, if they are not counted anyway.
pub(crate) const MOST_CONFUSED: usize = 64;

/// The most labels whose confusions are all written to JSON; for more, only the most common
/// mistakes.
const MOST_TOLD: usize = 100;

/// The figures of each label, and the confusions.
#[derive(Clone, Debug, PartialEq)]
pub struct ByClass {
    /// What is counted: `label`, `entity` or `tag`.
    pub of: &'static str,
    /// The figures of each.
    pub classes: Vec<ClassFigures>,
    /// Their means, named as in scikit-learn's `classification_report`.
    pub means: Vec<ClassFigures>,
    /// The confusions; `None` for several labels at once.
    pub confusion: Option<Confusion>,
}

/// How well a label is predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassFigures {
    /// The label.
    pub name: String,
    /// The share of its predictions that are right.
    pub precision: f64,
    /// The share of its occurrences that are predicted.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// The number of its occurrences.
    pub support: usize,
}

/// How often each label is predicted for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// The labels.
    pub names: Vec<String>,
    /// How often the first label was predicted as the second, which may be the same; zeros are left
    /// out.
    pub counts: BTreeMap<(usize, usize), usize>,
}

/// A label that was predicted as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mistake<'a> {
    pub truth: &'a str,
    pub found: &'a str,
    pub times: usize,
    /// How often the true label occurs.
    pub support: usize,
}

/// How often a label was predicted correctly, predicted wrongly, and missed.
pub(crate) type Hits = [f64; 3];

impl ClassFigures {
    fn new(name: &str, [right, wrong, missed]: Hits) -> Self {
        let share = |part: f64, of: f64| if of == 0.0 { 0.0 } else { part / of };
        Self {
            name: name.into(),
            precision: share(right, right + wrong),
            recall: share(right, right + missed),
            f1: share(2.0 * right, 2.0 * right + wrong + missed),
            support: (right + missed) as usize,
        }
    }

    /// The weighted mean of some figures.
    fn mean<'a>(name: &str, of: impl Iterator<Item = (&'a Self, f64)> + Clone) -> Self {
        let all: f64 = of.clone().map(|(_, weight)| weight).sum();
        let mean = |value: fn(&Self) -> f64| {
            let sum: f64 = of.clone().map(|(one, weight)| value(one) * weight).sum();
            if all == 0.0 { 0.0 } else { sum / all }
        };
        Self {
            name: name.into(),
            precision: mean(|one| one.precision),
            recall: mean(|one| one.recall),
            f1: mean(|one| one.f1),
            support: of.map(|(one, _)| one.support).sum(),
        }
    }
}

impl ByClass {
    /// The figures of labels from their counts. `has_micro` says whether a mean over all of them
    /// together is worth showing: with one label for each row it is the accuracy.
    pub(crate) fn new(
        of: &'static str,
        names: &[String],
        hits: &[Hits],
        has_micro: bool,
        confusion: Option<Confusion>,
    ) -> Self {
        let each = names.iter().zip(hits);
        let classes: Vec<_> = each
            .map(|(name, hits)| ClassFigures::new(name, *hits))
            .collect();
        let mut means = Vec::new();
        if has_micro {
            let all = hits
                .iter()
                .fold([0.0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
            means.push(ClassFigures::new("micro avg", all));
        }
        // As in scikit-learn and seqeval, what neither occurs nor is predicted does not count;
        // except for several labels at once, where scikit-learn counts everything.
        let counts_all = of == "label" && has_micro;
        let seen = classes.iter().zip(hits);
        let seen = seen.filter(|(_, hits)| counts_all || hits.iter().sum::<f64>() > 0.0);
        let seen = seen.map(|(one, _)| (one, 1.0));
        means.push(ClassFigures::mean("macro avg", seen));
        let by_support = classes.iter().map(|one| (one, one.support as f64));
        means.push(ClassFigures::mean("weighted avg", by_support));
        Self {
            of,
            classes,
            means,
            confusion,
        }
    }

    /// All figures by name, and the confusions, as JSON.
    pub fn to_json(&self) -> Map<String, Value> {
        let all = self.classes.iter().chain(&self.means);
        let figures = all.map(|one| {
            let figures = json!({
                "precision": one.precision,
                "recall": one.recall,
                "f1": one.f1,
                "support": one.support,
            });
            (one.name.clone(), figures)
        });
        let mut keys = Map::new();
        keys.insert("by_class".into(), Value::Object(figures.collect()));
        if let Some(confusion) = &self.confusion {
            keys.insert("confusion".into(), confusion.to_json());
        }
        keys
    }
}

impl Confusion {
    /// From pairs of the true and the predicted label.
    pub(crate) fn of_pairs(names: &[String], pairs: &[[f64; 2]]) -> Self {
        let mut counts = BTreeMap::new();
        for pair in pairs {
            let [truth, found] = pair.map(|label| label as usize);
            if truth < names.len() && found < names.len() {
                *counts.entry((truth, found)).or_default() += 1;
            }
        }
        let names = names.to_vec();
        Self { names, counts }
    }

    /// From a row for each true label, with how often it was predicted as each.
    pub(crate) fn of_rows(names: Vec<String>, rows: &[Vec<usize>]) -> Self {
        let rows = rows.iter().enumerate();
        let counts = rows.flat_map(|(truth, row)| {
            let row = row.iter().enumerate().filter(|(_, count)| **count > 0);
            row.map(move |(found, &count)| ((truth, found), count))
        });
        let counts = counts.collect();
        Self { names, counts }
    }

    /// How often the row's label is predicted as the column's, `[labels][labels]`.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![vec![0; self.names.len()]; self.names.len()];
        for (&(truth, found), &count) in &self.counts {
            rows[truth][found] = count;
        }
        rows
    }

    /// The mistakes, the most common first.
    pub(crate) fn mistakes(&self) -> Vec<Mistake<'_>> {
        let mut support = vec![0; self.names.len()];
        for (&(truth, _), count) in &self.counts {
            support[truth] += count;
        }
        let wrong = self.counts.iter();
        let wrong = wrong.filter(|((truth, found), _)| truth != found);
        let mut all: Vec<_> = wrong
            .map(|(&(truth, found), &times)| Mistake {
                truth: &self.names[truth],
                found: &self.names[found],
                times,
                support: support[truth],
            })
            .collect();
        all.sort_by_key(|mistake| std::cmp::Reverse(mistake.times));
        all
    }

    fn to_json(&self) -> Value {
        if self.names.len() <= MOST_TOLD {
            return json!({ "labels": self.names, "counts": self.rows() });
        }
        let mistakes = self.mistakes().into_iter().take(MOST_TOLD);
        let mistakes = mistakes.map(|mistake| {
            json!({
                "label": mistake.truth,
                "found": mistake.found,
                "times": mistake.times,
                "support": mistake.support,
            })
        });
        json!({ "mistakes": mistakes.collect::<Vec<_>>() })
    }

    /// How often each label was predicted correctly, predicted wrongly, and missed.
    pub(crate) fn hits(&self) -> Vec<Hits> {
        let mut hits = vec![[0.0; 3]; self.names.len()];
        for (&(truth, found), &count) in &self.counts {
            if truth == found {
                hits[truth][0] += count as f64;
            } else {
                hits[found][1] += count as f64;
                hits[truth][2] += count as f64;
            }
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.9, `classification_report` and `confusion_matrix` on
    /// y_true = [0, 0, 1, 1, 2, 2, 2, 2], y_pred = [0, 1, 1, 1, 2, 0, 2, 1]; no row has the label 3.
    #[test]
    fn figures_are_scikit_learn_s() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        let truth = [0, 0, 1, 1, 2, 2, 2, 2].map(f64::from);
        let found = [0, 1, 1, 1, 2, 0, 2, 1].map(f64::from);
        let pairs: Vec<_> = truth.into_iter().zip(found).map(|(a, b)| [a, b]).collect();
        let confusion = Confusion::of_pairs(&names, &pairs);
        assert_eq!(
            confusion.rows(),
            [[1, 1, 0, 0], [0, 2, 0, 0], [1, 1, 2, 0], [0, 0, 0, 0]]
        );
        let hits = confusion.hits();
        let report = ByClass::new("label", &names, &hits, false, Some(confusion));
        let all = report.classes.iter().chain(&report.means);
        let expected = [
            (0.5, 0.5, 0.5, 2),
            (0.5, 1.0, 0.666_666_666_7, 2),
            (1.0, 0.5, 0.666_666_666_7, 4),
            (0.0, 0.0, 0.0, 0),
            (0.666_666_666_7, 0.666_666_666_7, 0.611_111_111_1, 8),
            (0.75, 0.625, 0.625, 8),
        ];
        for (found, (precision, recall, f1, support)) in all.zip(expected) {
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{found:?}");
            near(found.precision, precision);
            near(found.recall, recall);
            near(found.f1, f1);
            assert_eq!(found.support, support);
        }
        assert_eq!(report.to_json()["by_class"]["c"]["support"], 4);
    }

    /// scikit-learn 1.9, `classification_report` on y_true = [[1, 0, 0], [1, 1, 0]] and
    /// y_pred = [[1, 1, 0], [1, 0, 0]].
    #[test]
    fn of_several_labels_all_count() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let hits = [[2.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0; 3]];
        let report = ByClass::new("label", &names, &hits, true, None);
        let [micro, of_all, weighted] = [0, 1, 2].map(|mean| report.means[mean].f1);
        assert!((micro - 2.0 / 3.0).abs() < 1e-9, "{micro}");
        assert!((of_all - 1.0 / 3.0).abs() < 1e-9, "{of_all}");
        assert!((weighted - 2.0 / 3.0).abs() < 1e-9, "{weighted}");
    }

    #[test]
    fn of_very_many_labels_the_commonest_mistakes_are_told() {
        let names: Vec<String> = (0..2_000).map(|id| format!("label {id}")).collect();
        let pairs = [[7.0, 1_999.0], [3.0, 4.0], [3.0, 4.0], [3.0, 3.0]];
        let found = Confusion::of_pairs(&names, &pairs).to_json();
        let first = json!({"label": "label 3", "found": "label 4", "times": 2, "support": 3});
        assert_eq!(found["mistakes"][0], first);
        assert_eq!(found["mistakes"].as_array().unwrap().len(), 2);
    }
}
