//! Texts that share tokens: each text is computed in its own rows, into which its tokens are
//! copied.

use crate::cpu::attention::Columns;
use crate::cpu::buffer::{filled, for_rows};

/// The rows of texts that lie one after the other, and the tokens they are copies of.
#[derive(Debug)]
pub(super) struct SharedTokens {
    /// The token of each row.
    token_of: Vec<usize>,
    /// The rows of each token in rising order, token after token; its first is the token's own row.
    rows: Vec<usize>,
    /// Where the rows of each token begin in `rows`, and where those of the last token end.
    starts: Vec<usize>,
}

impl SharedTokens {
    /// Rows that are copies of the tokens `token_of`, out of `tokens` tokens.
    ///
    /// # Panics
    /// If one of them is not below `tokens`.
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

    /// A token's own row; `None` for a token of no text.
    pub fn own_row(&self, token: usize) -> Option<usize> {
        self.rows_of(token).first().copied()
    }

    /// The tokens' values, copied to all their rows: `[rows, width]`.
    pub fn copied(&self, values: Columns<'_>, width: usize) -> Vec<f32> {
        filled(self.rows() * width, |out| {
            for_rows(out, width, |first, out| {
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    out.copy_from_slice(values.row(self.token_of[first + row], 0, width));
                }
            });
        })
    }

    /// As [`copied`](Self::copied), with zeros in all but the tokens' own rows.
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

    /// The sum of each token's rows, `[tokens, width]`.
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
