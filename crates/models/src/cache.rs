//! The keys and values of the positions before, kept between decoding steps.

use burn::tensor::Tensor;

/// The keys and values of every layer, `[batch, heads, past, head_dim]` each.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
    length: usize,
}

impl KvCache {
    /// The number of positions kept.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is kept yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends the keys and values of new positions to those of a layer and returns all of them.
    /// The layers are given in order, each once a step.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let (key, value) = match self.layers.get(layer) {
            Some((past_key, past_value)) => (
                Tensor::cat(vec![past_key.clone(), key], 2),
                Tensor::cat(vec![past_value.clone(), value], 2),
            ),
            None => (key, value),
        };
        let kept = (key.clone(), value.clone());
        match self.layers.get_mut(layer) {
            Some(place) => *place = kept,
            None => self.layers.push(kept),
        }
        (key, value)
    }

    /// Counts the positions of a step, after its last layer.
    pub(crate) fn advance(&mut self, positions: usize) {
        self.length += positions;
    }
}
