//! The metrics of a classifier: accuracy, F1, correlations.

use std::collections::BTreeMap;

use burn_peft_data::Classes;

use crate::objective::metric::{Measures, Metric, Sums};

/// For single labels. The sum is the number of correct labels; the pairs are the true and the
/// predicted label of each text.
pub static ONE: Measures = Measures {
    unit: "example",
    sums: &["Accuracy"],
    metrics: &[
        Metric::loss("loss (per example)"),
        Metric::mean("accuracy", "accuracy", true, accuracy),
        Metric::mean("f1_macro", "F1 (mean of the labels)", true, f1_macro),
        Metric::mean("f1_micro", "F1 (of all labels together)", true, f1_micro),
        Metric::mean("matthews", "Matthews' correlation", true, matthews),
    ],
};

/// For several labels. The sums are the number of texts with exactly the right labels, and for each
/// label how often it was predicted correctly, predicted wrongly, and missed.
pub static SEVERAL: Measures = Measures {
    unit: "example",
    sums: &["Accuracy"],
    metrics: &[
        Metric::loss("loss (per example)"),
        Metric::mean("accuracy", "accuracy (all labels right)", true, accuracy),
        Metric::mean("f1_macro", "F1 (mean of the labels)", true, |sums| {
            let each = of_labels(sums).map(f1);
            mean(&each.collect::<Vec<_>>())
        }),
        Metric::mean("f1_micro", "F1 (of all labels together)", true, |sums| {
            together(of_labels(sums))
        }),
    ],
};

/// For numbers.
pub static NUMBER: Measures = Measures {
    unit: "example",
    sums: &[],
    metrics: &[
        Metric::loss("loss (mean square)"),
        Metric::mean("pearson", "Pearson's correlation", true, |sums| {
            pearson(&sums.pairs)
        }),
        Metric::mean("spearman", "Spearman's correlation", true, |sums| {
            pearson(&ranked(&sums.pairs))
        }),
    ],
};

/// All metrics, for their names.
pub static EVERYTHING: Measures = Measures {
    unit: "example",
    sums: &[],
    metrics: &[
        ONE.metrics[0],
        ONE.metrics[1],
        ONE.metrics[2],
        ONE.metrics[3],
        ONE.metrics[4],
        NUMBER.metrics[1],
        NUMBER.metrics[2],
    ],
};

/// The counts of [`ONE`], from scores `[texts, labels]`: the sums and the pairs. A label outside of
/// the scores counts as wrong and is not in a pair.
pub fn confusion(scores: &[f64], labels: &[i64], count: usize) -> (Vec<f64>, Vec<[f64; 2]>) {
    let (mut right, mut pairs) = (0.0, Vec::new());
    for (scores, &label) in scores.chunks(count).zip(labels) {
        let found = best(scores) as i64;
        right += f64::from(u8::from(found == label));
        if (0..count as i64).contains(&label) {
            pairs.push([label as f64, found as f64]);
        }
    }
    (vec![right], pairs)
}

/// The label with the highest score, the first if several are equal.
pub fn best(scores: &[f64]) -> usize {
    let better = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).reduce(better).unwrap_or(0)
}

/// The counts of [`SEVERAL`], from scores `[texts, labels]`: a label is predicted if its score is
/// above 0.
pub fn hits<'a>(scores: &[f64], labels: impl Iterator<Item = &'a [i64]>, count: usize) -> Vec<f64> {
    let mut sums = vec![0.0; 3 * count + 1];
    for (scores, labels) in scores.chunks(count).zip(labels) {
        let mut is_exact = true;
        for (label, &score) in scores.iter().enumerate() {
            let kind = match (score > 0.0, Classes::has(labels, label)) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => continue,
            };
            is_exact &= kind == 0;
            sums[1 + 3 * label + kind] += 1.0;
        }
        sums[0] += f64::from(u8::from(is_exact));
    }
    sums
}

/// How often each of several labels was predicted correctly, predicted wrongly, and missed.
pub(crate) fn of_labels(sums: &Sums) -> impl Iterator<Item = [f64; 3]> + '_ {
    let (labels, _) = sums.sums.get(1..).unwrap_or_default().as_chunks::<3>();
    labels.iter().copied()
}

/// F1 from the counts of a label; 0 for one that never occurs.
fn f1([right, wrong, missed]: [f64; 3]) -> f64 {
    match 2.0 * right + wrong + missed {
        0.0 => 0.0,
        all => 2.0 * right / all,
    }
}

/// F1 of all labels together; NaN if nothing was counted.
fn together(mut each: impl Iterator<Item = [f64; 3]>) -> f64 {
    let Some(first) = each.next() else {
        return f64::NAN;
    };
    f1(each.fold(first, |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn accuracy(sums: &Sums) -> f64 {
    sums.mean(sums.sums.first().copied().unwrap_or(f64::NAN))
}

/// The counts of each label that occurs in a pair.
fn each(sums: &Sums) -> Vec<[f64; 3]> {
    let mut of_label: BTreeMap<u64, [f64; 3]> = BTreeMap::new();
    let mut count = |label: f64, kind: usize| {
        of_label.entry(label as u64).or_default()[kind] += 1.0;
    };
    for &[truth, found] in &sums.pairs {
        if truth == found {
            count(truth, 0);
        } else {
            count(found, 1);
            count(truth, 2);
        }
    }
    of_label.into_values().collect()
}

fn f1_macro(sums: &Sums) -> f64 {
    // As in scikit-learn, labels that neither occur nor are predicted do not count.
    mean(&each(sums).into_iter().map(f1).collect::<Vec<_>>())
}

fn f1_micro(sums: &Sums) -> f64 {
    together(each(sums).into_iter())
}

/// The correlation of true and predicted labels (Gorodkin's for more than two); 0 if one of them
/// never changes.
fn matthews(sums: &Sums) -> f64 {
    let each = each(sums);
    let all = sums.pairs.len() as f64;
    let over = |of: fn(&[f64; 3]) -> f64| each.iter().map(of).sum::<f64>();
    let right = over(|[right, ..]| *right);
    let both = over(|[right, wrong, missed]| (right + missed) * (right + wrong));
    let of_truth = all * all - over(|[right, _, missed]| (right + missed).powi(2));
    let of_found = all * all - over(|[right, wrong, _]| (right + wrong).powi(2));
    match (of_truth * of_found).sqrt() {
        _ if each.is_empty() => f64::NAN,
        0.0 => 0.0,
        root => (right * all - both) / root,
    }
}

/// The correlation of pairs.
fn pearson(pairs: &[[f64; 2]]) -> f64 {
    let mean_of = |side: usize| mean(&pairs.iter().map(|pair| pair[side]).collect::<Vec<_>>());
    let means = [mean_of(0), mean_of(1)];
    let product = |a: usize, b: usize| {
        let products = pairs
            .iter()
            .map(|pair| (pair[a] - means[a]) * (pair[b] - means[b]));
        products.sum::<f64>()
    };
    product(0, 1) / (product(0, 0) * product(1, 1)).sqrt()
}

/// The ranks of both sides of pairs; equal numbers get the mean of their ranks.
fn ranked(pairs: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut ranked = vec![[0.0; 2]; pairs.len()];
    for side in 0..2 {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|&a, &b| pairs[a][side].total_cmp(&pairs[b][side]));
        for equal in order.chunk_by(|&a, &b| pairs[a][side] == pairs[b][side]) {
            let first = order.partition_point(|&at| pairs[at][side] < pairs[equal[0]][side]);
            let rank = first as f64 + (equal.len() - 1) as f64 / 2.0;
            equal.iter().for_each(|&at| ranked[at][side] = rank);
        }
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(measures: &Measures, sums: &Sums, name: &str) -> f64 {
        let metric = measures.metrics.iter().find(|metric| metric.name == name);
        (metric.unwrap().of)(sums)
    }

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9,
            "{found} in place of {expected}"
        );
    }

    /// scikit-learn 1.9 on y_true = [0, 0, 1, 1, 2, 2, 2], y_pred = [0, 1, 1, 1, 2, 0, 2].
    #[test]
    fn figures_of_one_label_are_scikit_learn_s() {
        let found = [0, 1, 1, 1, 2, 0, 2];
        let scores: Vec<f64> = (found.iter())
            .flat_map(|&best| (0..3).map(move |label| f64::from(u8::from(label == best))))
            .collect();
        let (right, pairs) = confusion(&scores, &[0, 0, 1, 1, 2, 2, 2], 3);
        let sums = Sums {
            count: 7,
            sums: right,
            pairs,
            ..Sums::default()
        };
        near(value(&ONE, &sums, "accuracy"), 0.714_285_714_285_714_3);
        near(value(&ONE, &sums, "f1_macro"), 0.7);
        near(value(&ONE, &sums, "f1_micro"), 0.714_285_714_285_714_3);
        near(value(&ONE, &sums, "matthews"), 0.593_75);
    }

    #[test]
    fn figures_of_several_labels() {
        // Predicted: {0}, {0, 1}, {}; true: {0, 1}, {0, 1}, {1}.
        let scores = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0];
        let sums = Sums {
            count: 3,
            sums: hits(&scores, [&[0b11][..], &[0b11], &[0b10]].into_iter(), 2),
            ..Sums::default()
        };
        near(value(&SEVERAL, &sums, "accuracy"), 1.0 / 3.0);
        near(value(&SEVERAL, &sums, "f1_macro"), (1.0 + 0.5) / 2.0);
        near(value(&SEVERAL, &sums, "f1_micro"), 6.0 / 8.0);
    }

    /// scipy 1.17: pearsonr and spearmanr.
    #[test]
    fn figures_of_numbers_are_scipy_s() {
        let sums = Sums {
            count: 5,
            pairs: vec![[1.0, 2.0], [2.0, 1.0], [2.0, 4.0], [5.0, 6.0], [7.0, 5.0]],
            ..Sums::default()
        };
        near(value(&NUMBER, &sums, "pearson"), 0.758_914_049_977_242_7);
        near(value(&NUMBER, &sums, "spearman"), 0.718_184_846_459_607_9);
    }
}
