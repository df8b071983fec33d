//! The metrics of embeddings and their names.

use crate::objective::metric::{Measures, Metric, Sums, sum};
use crate::objective::scoring::NUMBER;

const fn found(name: &'static str, title: &'static str, of: fn(&Sums) -> f64) -> Metric {
    Metric::mean(name, title, true, of)
}

/// For rows to be retrieved: each first text is a query among the second and further texts of all
/// rows.
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

/// As [`FOUND`], for rows with negatives: also how often the second text is more similar to the
/// first than all other texts of its row.
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

/// For rows with a score: how well their cosines follow it.
pub(super) static ALIKE: Measures = Measures {
    unit: "row",
    sums: &[],
    metrics: &[
        Metric::loss("loss (mean square)"),
        NUMBER.metrics[1],
        NUMBER.metrics[2],
    ],
};

/// All metrics, for their names.
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

/// A mean over all queries.
fn mean(sums: &Sums, index: usize) -> f64 {
    sum(sums, index) / sum(sums, 0)
}
