//! Rows of different lengths as inputs of a model with a cache.

use burn::tensor::{Device, Tensor, TensorData};
use burn_peft_kernels::FirstKeys;

use crate::ModelInput;

/// Rows padded on the left, so that all of them end, and continue, at the same position.
pub(super) struct Padded {
    device: Device,
    /// The number of padding positions before each row: its first token comes after them.
    padding: FirstKeys,
    /// The number of positions in the cache.
    past: usize,
    /// The tokens of the next pass, `[rows, seq]`.
    ids: Vec<i64>,
}

impl Padded {
    /// The rows for these prompts, which have at least one token each.
    pub fn new(prompts: &[&[u32]], device: Device) -> Self {
        let lengths = || prompts.iter().map(|prompt| prompt.len());
        let longest = lengths().max().unwrap_or_default();
        let mut ids = vec![0; prompts.len() * longest];
        for (row, prompt) in ids.chunks_exact_mut(longest.max(1)).zip(prompts) {
            let text = row[longest - prompt.len()..].iter_mut();
            text.zip(*prompt).for_each(|(to, &id)| *to = id.into());
        }
        let padding: Vec<_> = lengths().map(|length| longest - length).collect();
        Self {
            device,
            padding: padding.into(),
            past: 0,
            ids,
        }
    }

    /// A row that continues after `past` positions with the tokens of `rest`, at least one.
    pub fn after(past: usize, rest: &[u32], device: Device) -> Self {
        Self {
            past,
            ..Self::new(&[rest], device)
        }
    }

    /// The number of positions whose inputs were returned.
    pub fn past(&self) -> usize {
        self.past
    }

    /// The input of the next pass. For the pass after it, [`push`](Self::push) has to give every
    /// row a token. The result for a row without a token is meaningless.
    pub fn next(&mut self) -> ModelInput {
        let padding = self.padding.rows();
        let rows = padding.len();
        let ids = std::mem::replace(&mut self.ids, vec![0; rows]);
        let (past, seq) = (self.past, ids.len() / rows);
        self.past += seq;
        let matrix = |values: Vec<i64>| {
            let width = values.len() / rows;
            Tensor::from_data(TensorData::new(values, [rows, width]), &self.device)
        };
        let mut input = ModelInput::new(matrix(ids));
        // Without padding the positions are known, and a single row, the usual case, needs no mask.
        if padding.iter().any(|&padding| padding > 0) {
            let of_rows = |of: &dyn Fn(usize, usize) -> i64, from: usize| {
                let rows = padding.iter();
                let values =
                    rows.flat_map(|&padding| (from..past + seq).map(move |at| of(at, padding)));
                matrix(values.collect())
            };
            input.attention_mask = Some(of_rows(&|at, padding| i64::from(at >= padding), 0));
            let at_padding = |at, padding| usize::saturating_sub(at, padding) as i64;
            input.position_ids = Some(of_rows(&at_padding, past));
            // The longest row has no padding.
            input.length = Some(past + seq);
            input.first_keys = Some(self.padding.clone());
        }
        input
    }

    /// The length of a row after the next pass, padding included.
    pub fn width(&self) -> usize {
        self.past + self.ids.len() / self.padding.rows().len().max(1)
    }

    /// Sets the token that a row continues with in the next pass.
    pub fn push(&mut self, row: usize, id: u32) {
        self.ids[row] = id.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_the_largest_position() {
        let mut inputs = Padded::new(&[&[1, 2], &[3, 4, 5, 6]], Device::flex());
        for length in [4, 5, 6] {
            let input = inputs.next();
            assert_eq!(input.length, Some(length));
            let last = input.position_ids.unwrap().max().into_scalar::<i64>();
            assert_eq!(last + 1, length as i64);
        }
    }
}
