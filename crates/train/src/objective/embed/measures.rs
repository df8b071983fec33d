//! What an evaluation of embeddings measures, and how it is called.

use crate::objective::metric::{Measures, Metric, Sums, sum};
use crate::objective::scoring::NUMBER;

const fn found(name: &'static str, title: &'static str, of: fn(&Sums) -> f64) -> Metric {
    Metric::mean(name, title, true, of)
}

/// Of rows that are looked for: each first text among the second and further ones of all rows.
pub(super) static FOUND: Measures = Measures {
    unit: "row",
    sums: &[],
    metrics: &[
        Metric::loss("loss (per row)"),
        found("recall@1", "recall of the first", |sums| mean(sums, 1)),
        found("recall@5", "recall of the first 5", |sums| mean(sums, 2)),
        found("recall@10", "recall of the first 10", |sums| mean(sums, 3)),
        found("ndcg@10", "nDCG of the first 10", |sums| mean(sums, 4)),
        found("mrr@10", "MRR of the first 10", |sums| mean(sums, 5)),
    ],
};

/// As [`FOUND`], of rows with negatives: how often the second text is more alike to the first than all
/// others of its row.
pub(super) static FOUND_AND_TOLD_APART: Measures = Measures {
    unit: "row",
    sums: &[],
    metrics: &[
        FOUND.metrics[0],
        APART,
        FOUND.metrics[1],
        FOUND.metrics[2],
        FOUND.metrics[3],
        FOUND.metrics[4],
        FOUND.metrics[5],
    ],
};

const APART: Metric = found("accuracy", "accuracy (told from its negatives)", |sums| {
    sums.mean(sum(sums, 6))
});

/// Of rows with a score: how their cosines follow it.
pub(super) static ALIKE: Measures = Measures {
    unit: "row",
    sums: &[],
    metrics: &[
        Metric::loss("loss (mean square)"),
        NUMBER.metrics[1],
        NUMBER.metrics[2],
    ],
};

/// All metrics there are, for their names.
pub(super) static ALL: Measures = Measures {
    unit: "row",
    sums: &[],
    metrics: &[
        FOUND.metrics[0],
        FOUND.metrics[1],
        FOUND.metrics[2],
        FOUND.metrics[3],
        FOUND.metrics[4],
        FOUND.metrics[5],
        APART,
        NUMBER.metrics[1],
        NUMBER.metrics[2],
    ],
};

/// A mean over all that was looked for.
fn mean(sums: &Sums, index: usize) -> f64 {
    sum(sums, index) / sum(sums, 0)
}
