//! The options of attention.

use crate::cpu::attention::Dims;

/// The heads of attention, what they see, and what is done to their scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// The number of heads of the queries.
    pub heads: usize,
    /// The number of heads of the keys and values, a divisor of `heads`: neighbouring heads share
    /// one.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// What the scores are multiplied by.
    pub scale: f64,
    /// Whether a query sees only the keys up to its own; otherwise it sees all keys of its text.
    pub causal: bool,
    /// Of these keys, a query sees those at a distance of less than this, its own included; without
    /// a window it sees them all. That is at most `window` keys where attention is causal
    /// (transformers' `sliding_window`), and `2 * window - 1` where it is not: ModernBERT's
    /// `local_attention` of 128, which is 64 to each side, is a window of 65.
    pub window: Option<usize>,
    /// Keeps the scaled scores `s` between plus and minus this: `softcap · tanh(s / softcap)`.
    pub softcap: Option<f64>,
}

impl AttentionOptions {
    /// Causal attention without a window or a cap, with scores scaled by `1/√head_dim`.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            causal: true,
            window: None,
            softcap: None,
        }
    }

    /// The same options with `causal` set.
    pub fn with_causal(self, causal: bool) -> Self {
        Self { causal, ..self }
    }

    pub(crate) fn dims(&self) -> Dims {
        Dims {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.scale as f32,
            causal: self.causal,
            window: self.window,
            softcap: self.softcap.map(|cap| cap as f32),
        }
    }

    /// The widths of queries, keys and values.
    pub(crate) fn widths(&self) -> [usize; 3] {
        let keys = self.kv_heads * self.head_dim;
        [self.heads * self.head_dim, keys, keys]
    }
}
