//! Several examples as one rectangle of tokens.

use crate::example::{Example, IGNORE_INDEX};

/// A batch, row-major `[batch, seq]`, padded on the right to its longest example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Token ids `[batch, seq]`.
    pub input_ids: Vec<i64>,
    /// 1 for a token, 0 for padding, `[batch, seq]`.
    pub attention_mask: Vec<i64>,
    /// What is to be learnt at each token, `[batch, seq]`; [`IGNORE_INDEX`] is nothing.
    pub labels: Vec<i64>,
    /// Number of examples.
    pub batch: usize,
    /// Tokens of each, padding included.
    pub seq: usize,
    /// The examples' row numbers in their file, `[batch]`.
    pub rows: Vec<usize>,
}

impl Batch {
    /// Lays examples out side by side, the width rounded up to `pad_to_multiple_of`.
    pub fn collate(examples: &[&Example], pad_id: u32, pad_to_multiple_of: Option<usize>) -> Self {
        let longest = examples
            .iter()
            .map(|example| example.input_ids.len())
            .max()
            .unwrap_or(0);
        let seq = longest.next_multiple_of(pad_to_multiple_of.unwrap_or(1).max(1));
        let cells = examples.len() * seq;
        let mut batch = Self {
            input_ids: Vec::with_capacity(cells),
            attention_mask: Vec::with_capacity(cells),
            labels: Vec::with_capacity(cells),
            batch: examples.len(),
            seq,
            rows: examples.iter().map(|example| example.row).collect(),
        };
        for (end, example) in (1..).map(|i| i * seq).zip(examples) {
            batch
                .attention_mask
                .extend(example.input_ids.iter().map(|_| 1));
            batch.attention_mask.resize(end, 0);
            batch
                .input_ids
                .extend(example.input_ids.iter().map(|&id| i64::from(id)));
            batch.input_ids.resize(end, i64::from(pad_id));
            batch.labels.extend(&example.labels);
            batch.labels.resize(end, IGNORE_INDEX);
        }
        batch
    }

    /// Labels the loss is taken over: those that are not ignored after the shift, `labels[:, 1:]`.
    pub fn supervised_tokens(&self) -> usize {
        let rows = self.labels.chunks(self.seq.max(1));
        rows.map(|row| {
            row.iter()
                .skip(1)
                .filter(|&&label| label != IGNORE_INDEX)
                .count()
        })
        .sum()
    }

    /// Tokens that are not padding.
    pub fn tokens(&self) -> usize {
        self.attention_mask
            .iter()
            .filter(|&&mask| mask == 1)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_on_the_right_and_learns_no_padding() {
        let long = Example {
            input_ids: vec![5, 6, 7],
            labels: vec![-100, 6, 7],
            row: 4,
        };
        let short = Example {
            input_ids: vec![8, 9],
            labels: vec![8, 9],
            row: 2,
        };
        let batch = Batch::collate(&[&long, &short], 1, None);
        assert_eq!((batch.batch, batch.seq), (2, 3));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9, 1]);
        assert_eq!(batch.attention_mask, [1, 1, 1, 1, 1, 0]);
        assert_eq!(batch.labels, [-100, 6, 7, 8, 9, -100]);
        assert_eq!(batch.rows, [4, 2]);
        // 6, 7 and 9: the 8 has nothing before it.
        assert_eq!((batch.supervised_tokens(), batch.tokens()), (3, 5));

        let wide = Batch::collate(&[&long, &short], 1, Some(4));
        assert_eq!((wide.seq, wide.supervised_tokens()), (4, 3));
        assert_eq!(wide.input_ids[4..], [8, 9, 1, 1]);
        assert_eq!(Batch::collate(&[], 0, None).supervised_tokens(), 0);
    }
}
