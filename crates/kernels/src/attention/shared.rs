//! Texts that share tokens: each is computed in rows of its own, where the tokens are copied to.

use crate::cpu::attention::Columns;
use crate::cpu::buffer::{filled, for_rows};

/// The rows of texts that lie one after the other, and the tokens they are copies of.
#[derive(Debug)]
pub(super) struct SharedTokens {
    /// The token of each row.
    token_of: Vec<usize>,
    /// The rows of each token, rising, one token after the other; the first is its own.
    rows: Vec<usize>,
    /// Where those of a token begin, and where the last one's end.
    starts: Vec<usize>,
}

impl SharedTokens {
    /// Of `tokens` tokens.
    ///
    /// # Panics
    /// If a row is of a token that there is not.
    pub fn new(token_of: Vec<usize>, tokens: usize) -> Self {
        let mut starts = vec![0; tokens + 1];
        for &token in &token_of {
            starts[token + 1] += 1;
        }
        for token in 0..tokens {
            starts[token + 1] += starts[token];
        }
        let (mut rows, mut next) = (vec![0; token_of.len()], starts.clone());
        for (row, &token) in token_of.iter().enumerate() {
            rows[next[token]] = row;
            next[token] += 1;
        }
        Self {
            token_of,
            rows,
            starts,
        }
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.token_of.len()
    }

    /// The token of each row.
    pub fn token_of(&self) -> &[usize] {
        &self.token_of
    }

    /// The rows of a token.
    fn rows_of(&self, token: usize) -> &[usize] {
        &self.rows[self.starts[token]..self.starts[token + 1]]
    }

    /// The row that is a token's own; none of a token of no text.
    pub fn own_row(&self, token: usize) -> Option<usize> {
        self.rows_of(token).first().copied()
    }

    /// The values of tokens in all rows, `[rows, width]`.
    pub fn copied(&self, values: Columns<'_>, width: usize) -> Vec<f32> {
        filled(self.rows() * width, |out| {
            for_rows(out, width, |first, out| {
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    out.copy_from_slice(values.row(self.token_of[first + row], 0, width));
                }
            });
        })
    }

    /// As [`copied`](Self::copied), with zeros in rows that are no token's own.
    pub fn placed(&self, values: Columns<'_>, width: usize) -> Vec<f32> {
        filled(self.rows() * width, |out| {
            for_rows(out, width, |first, out| {
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    let token = self.token_of[first + row];
                    if self.own_row(token) == Some(first + row) {
                        out.copy_from_slice(values.row(token, 0, width));
                    } else {
                        out.fill(0.0);
                    }
                }
            });
        })
    }

    /// The values of the tokens' own rows, `[tokens, width]`; zeros for tokens of no text.
    pub fn own(&self, values: &[f32], width: usize) -> Vec<f32> {
        self.of_tokens(width, |rows, out| match rows.first() {
            Some(&row) => out.copy_from_slice(&values[row * width..][..width]),
            None => out.fill(0.0),
        })
    }

    /// The sums over all rows of each token, `[tokens, width]`.
    pub fn summed(&self, values: &[f32], width: usize) -> Vec<f32> {
        self.of_tokens(width, |rows, out| {
            out.fill(0.0);
            for &row in rows {
                let values = &values[row * width..][..width];
                out.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
        })
    }

    fn of_tokens(&self, width: usize, fill: impl Fn(&[usize], &mut [f32]) + Sync) -> Vec<f32> {
        filled(self.tokens() * width, |out| {
            for_rows(out, width, |first, out| {
                for (token, out) in out.chunks_exact_mut(width).enumerate() {
                    fill(self.rows_of(first + token), out);
                }
            });
        })
    }
}
