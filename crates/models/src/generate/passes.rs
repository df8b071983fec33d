//! The passes through a model, one for each token.

use burn_peft_kernels::among_awake_threads;

use super::Row;
use super::padded::Padded;
use crate::{CausalLm, InputError, KvCache, Result};

/// The input of the next pass, and what earlier passes left.
pub(super) struct Passes {
    /// The tokens of the next pass.
    pub inputs: Padded,
    /// The keys and values of the tokens before.
    pub cache: KvCache,
    /// The lengths of the shortest and the longest text in which the cached positions were
    /// computed.
    pub lengths: (usize, usize),
    /// The number of positions computed for a row.
    pub computed: usize,
}

impl Passes {
    /// Passes that start with an empty cache.
    pub fn new(inputs: Padded) -> Self {
        Self {
            inputs,
            cache: KvCache::default(),
            lengths: (usize::MAX, 0),
            computed: 0,
        }
    }

    /// The logits of the next pass, row after row.
    pub fn next(&mut self, model: &impl CausalLm, rows: &[Row]) -> Result<Vec<f32>> {
        if model.outgrows_cache(self.cache.len(), self.inputs.width()) {
            let texts: Vec<&[u32]> = rows.iter().map(|row| &row.seen[..]).collect();
            let inputs = Padded::new(&texts, model.device().without_autodiff());
            *self = Self {
                computed: self.computed,
                ..Self::new(inputs)
            };
        }
        let (past, length) = (self.inputs.past(), self.inputs.width());
        self.computed += length - past;
        self.lengths = (self.lengths.0.min(length), self.lengths.1.max(length));
        let (input, cache) = (self.inputs.next(), &mut self.cache);
        let logits = among_awake_threads(|| model.forward_cached(input, cache));
        let logits = logits.try_into_vec_as::<f32>();
        Ok(logits.map_err(|error| InputError::Logits(error.to_string()))?)
    }
}
