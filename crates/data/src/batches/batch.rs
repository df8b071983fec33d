//! A batch: several examples of different lengths, stored one after the other.

use crate::tokens::example::{Example, IGNORE_INDEX};
use std::ops::Range;

/// Examples of different lengths, one after the other and without padding.
///
/// The tensors of a batch are made from it: one row without padding, or a matrix of
/// [`width`](Self::width) columns, padded with [`pad_id`](Self::pad_id), where one is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The token ids of all examples, `[tokens]`.
    pub input_ids: Vec<i64>,
    /// The label of each token, `[tokens]`; [`IGNORE_INDEX`] means that the token is not learnt.
    pub labels: Vec<i64>,
    /// The range of tokens of each example.
    pub spans: Vec<Range<usize>>,
    /// With packing, the examples of each row of the batch; otherwise each example is a row.
    pub packed: Option<Vec<Range<usize>>>,
    /// The number of columns of a matrix of the rows: the length of the longest row, rounded up to
    /// a multiple where one is asked for.
    pub width: usize,
    /// The token id that such a matrix is padded with.
    pub pad_id: i64,
    /// The row number of each example in its file.
    pub rows: Vec<usize>,
    /// For each example, which of the [sets](crate::Examples::sets) its file is.
    pub sets: Vec<usize>,
}

impl Batch {
    /// A batch with one example in each row, its width rounded up to `pad_to_multiple_of`.
    pub fn collate(examples: &[Example], pad_id: u32, pad_to_multiple_of: Option<usize>) -> Self {
        let mut batch = Self {
            pad_id: pad_id.into(),
            ..Self::default()
        };
        for example in examples {
            batch.push(example);
        }
        batch.set_width(pad_to_multiple_of);
        batch
    }

    /// As [`collate`](Self::collate), but all examples of an element share one row. The first token
    /// of an example is not predicted from the example before it.
    pub fn pack(rows: &[Vec<Example>], pad_id: u32, pad_to_multiple_of: Option<usize>) -> Self {
        let mut batch = Self {
            pad_id: pad_id.into(),
            ..Self::default()
        };
        let mut packed = Vec::with_capacity(rows.len());
        for row in rows {
            let first = batch.spans.len();
            for example in row {
                let start = batch.input_ids.len();
                batch.push(example);
                if let Some(label) = batch.labels.get_mut(start) {
                    *label = IGNORE_INDEX;
                }
            }
            packed.push(first..batch.spans.len());
        }
        batch.packed = Some(packed);
        batch.set_width(pad_to_multiple_of);
        batch
    }

    fn push(&mut self, example: &Example) {
        let start = self.input_ids.len();
        let ids = example.input_ids.iter().map(|&id| i64::from(id));
        self.input_ids.extend(ids);
        self.labels.extend(&example.labels);
        self.spans.push(start..self.input_ids.len());
        self.rows.push(example.row);
        self.sets.push(0);
    }

    fn set_width(&mut self, pad_to_multiple_of: Option<usize>) {
        let longest = self.row_spans().map(|row| row.len()).max().unwrap_or(0);
        self.width = longest.next_multiple_of(pad_to_multiple_of.unwrap_or(1).max(1));
    }

    /// The range of tokens of each row.
    pub fn row_spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.len()).map(|row| match &self.packed {
            None => self.spans[row].clone(),
            Some(rows) => {
                let spans = &self.spans[rows[row].clone()];
                let start = spans.first().map_or(0, |span| span.start);
                start..spans.last().map_or(start, |span| span.end)
            }
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.packed.as_ref().map_or(self.spans.len(), Vec::len)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// The number of token positions that the batch is computed with: its tokens, or with packed
    /// rows those of a matrix.
    pub fn places(&self) -> usize {
        match &self.packed {
            Some(rows) => rows.len() * self.width,
            None => self.tokens(),
        }
    }

    /// The labels of each example.
    pub fn example_labels(&self) -> impl Iterator<Item = &[i64]> {
        let spans = self.spans.iter();
        spans.map(|span| &self.labels[span.clone()])
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
    fn examples_lie_one_after_the_other() {
        let batch = Batch::collate(&[long(), short()], 1, None);
        assert_eq!((batch.len(), batch.width, batch.tokens()), (2, 3, 5));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9]);
        assert_eq!(batch.labels, [-100, 6, 7, 8, 9]);
        assert_eq!(batch.spans, [0..3, 3..5]);
        assert_eq!((&batch.rows[..], &batch.packed), (&[4, 2][..], &None));
        assert!(batch.example_labels().eq([&[-100, 6, 7][..], &[8, 9]]));

        let wide = Batch::collate(&[long(), short()], 1, Some(4));
        assert_eq!((wide.width, wide.tokens()), (4, 5));
        assert!(Batch::collate(&[], 0, None).is_empty());
    }

    #[test]
    fn packed_examples_stay_apart() {
        let batch = Batch::pack(&[vec![long(), short()], vec![short()]], 1, None);
        assert_eq!((batch.len(), batch.width), (2, 5));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9, 8, 9]);
        assert_eq!(batch.spans, [0..3, 3..5, 5..7]);
        assert_eq!(batch.row_spans().collect::<Vec<_>>(), [0..5, 5..7]);
        // The 8 is not predicted from the 7 before it.
        assert_eq!(batch.labels[..5], [-100, 6, 7, -100, 9]);
        assert_eq!(batch.rows, [4, 2, 2]);
    }
}
