//! What an attention is asked for besides its tensors.

use crate::cpu::attention::Dims;

/// The heads of a causal attention, and what is done to their scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// The heads of the queries.
    pub heads: usize,
    /// The heads of the keys and values, a divisor of `heads`: neighbouring heads share one.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// What the scores are multiplied by.
    pub scale: f64,
    /// How many keys a query sees at most, the last of them its own (transformers'
    /// `sliding_window`); all of them without it.
    pub window: Option<usize>,
    /// Brings the scaled scores `s` between plus and minus this: `softcap · tanh(s / softcap)`.
    pub softcap: Option<f64>,
}

impl AttentionOptions {
    /// Heads that see all keys before them, with scores times `1/√head_dim`.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            window: None,
            softcap: None,
        }
    }

    pub(crate) fn dims(&self) -> Dims {
        Dims {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.scale as f32,
            window: self.window,
            softcap: self.softcap.map(|cap| cap as f32),
        }
    }

    /// The columns of queries, keys and values.
    pub(crate) fn widths(&self) -> [usize; 3] {
        let keys = self.kv_heads * self.head_dim;
        [self.heads * self.head_dim, keys, keys]
    }
}
