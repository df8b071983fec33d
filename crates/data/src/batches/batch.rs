//! Several examples as one rectangle of tokens.

use crate::tokens::example::{Example, IGNORE_INDEX};

/// A batch, row-major `[batch, seq]`, padded on the right to its longest row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Token ids `[batch, seq]`.
    pub input_ids: Vec<i64>,
    /// 1 for a token, 0 for padding, `[batch, seq]`.
    pub attention_mask: Vec<i64>,
    /// What is to be learnt at each token, `[batch, seq]`; [`IGNORE_INDEX`] is nothing.
    pub labels: Vec<i64>,
    /// With packing, which example of its row a token belongs to, counted from 1; 0 is padding.
    /// `[batch, seq]`
    pub segment_ids: Option<Vec<i64>>,
    /// Number of rows.
    pub batch: usize,
    /// Tokens of each, padding included.
    pub seq: usize,
    /// The row numbers of all examples in their file.
    pub rows: Vec<usize>,
}

impl Batch {
    /// Lays examples out side by side, the width rounded up to `pad_to_multiple_of`.
    pub fn collate(examples: &[Example], pad_id: u32, pad_to_multiple_of: Option<usize>) -> Self {
        let rows: Vec<&[Example]> = examples.chunks(1).collect();
        Self::lay_out(&rows, pad_id, pad_to_multiple_of)
    }

    /// As [`collate`](Self::collate), with all examples of an element in one row. The first token
    /// of each is not predicted from the example before.
    pub fn pack(rows: &[Vec<Example>], pad_id: u32, pad_to_multiple_of: Option<usize>) -> Self {
        let rows: Vec<&[Example]> = rows.iter().map(Vec::as_slice).collect();
        let mut batch = Self::lay_out(&rows, pad_id, pad_to_multiple_of);
        let mut segments = Vec::with_capacity(batch.input_ids.len());
        for (end, row) in (1..).map(|i| i * batch.seq).zip(&rows) {
            for (number, example) in (1..).zip(*row) {
                if let Some(first) = batch.labels.get_mut(segments.len()) {
                    *first = IGNORE_INDEX;
                }
                segments.extend(example.input_ids.iter().map(|_| number));
            }
            segments.resize(end, 0);
        }
        batch.segment_ids = Some(segments);
        batch
    }

    fn lay_out(rows: &[&[Example]], pad_id: u32, pad_to_multiple_of: Option<usize>) -> Self {
        let width = |row: &&[Example]| row.iter().map(|example| example.input_ids.len()).sum();
        let longest: usize = rows.iter().map(width).max().unwrap_or(0);
        let seq = longest.next_multiple_of(pad_to_multiple_of.unwrap_or(1).max(1));
        let cells = rows.len() * seq;
        let mut batch = Self {
            input_ids: Vec::with_capacity(cells),
            attention_mask: Vec::with_capacity(cells),
            labels: Vec::with_capacity(cells),
            segment_ids: None,
            batch: rows.len(),
            seq,
            rows: rows
                .iter()
                .copied()
                .flatten()
                .map(|example| example.row)
                .collect(),
        };
        for (end, row) in (1..).map(|i| i * seq).zip(rows) {
            for example in *row {
                let ids = example.input_ids.iter().map(|&id| i64::from(id));
                batch.input_ids.extend(ids);
                batch.labels.extend(&example.labels);
            }
            batch.attention_mask.resize(batch.input_ids.len(), 1);
            batch.attention_mask.resize(end, 0);
            batch.input_ids.resize(end, i64::from(pad_id));
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

    fn long() -> Example {
        Example {
            input_ids: vec![5, 6, 7],
            labels: vec![-100, 6, 7],
            row: 4,
        }
    }

    fn short() -> Example {
        Example {
            input_ids: vec![8, 9],
            labels: vec![8, 9],
            row: 2,
        }
    }

    #[test]
    fn pads_on_the_right_and_learns_no_padding() {
        let batch = Batch::collate(&[long(), short()], 1, None);
        assert_eq!((batch.batch, batch.seq), (2, 3));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9, 1]);
        assert_eq!(batch.attention_mask, [1, 1, 1, 1, 1, 0]);
        assert_eq!(batch.labels, [-100, 6, 7, 8, 9, -100]);
        assert_eq!((&batch.rows[..], &batch.segment_ids), (&[4, 2][..], &None));
        // 6, 7 and 9: the 8 has nothing before it.
        assert_eq!((batch.supervised_tokens(), batch.tokens()), (3, 5));

        let wide = Batch::collate(&[long(), short()], 1, Some(4));
        assert_eq!((wide.seq, wide.supervised_tokens()), (4, 3));
        assert_eq!(wide.input_ids[4..], [8, 9, 1, 1]);
        assert_eq!(Batch::collate(&[], 0, None).supervised_tokens(), 0);
    }

    #[test]
    fn packed_examples_stay_apart() {
        let batch = Batch::pack(&[vec![long(), short()], vec![short()]], 1, None);
        assert_eq!((batch.batch, batch.seq), (2, 5));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9, 8, 9, 1, 1, 1]);
        assert_eq!(
            batch.segment_ids.as_deref().unwrap(),
            [1, 1, 1, 2, 2, 1, 1, 0, 0, 0]
        );
        // The 8 is not predicted from the 7 before it.
        assert_eq!(batch.labels[..5], [-100, 6, 7, -100, 9]);
        assert_eq!(batch.rows, [4, 2, 2]);
        assert_eq!((batch.supervised_tokens(), batch.tokens()), (4, 7));
    }
}
