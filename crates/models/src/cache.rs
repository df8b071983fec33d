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

    /// Begins with keys and values for each layer, `[heads, positions, head_dim]`, that every row
    /// has before its own.
    pub(crate) fn begin(&mut self, prefix: &[(Tensor<3>, Tensor<3>)], batch: usize) {
        let of_every_row = |tensor: &Tensor<3>| {
            let [heads, positions, head_dim] = tensor.dims();
            let tensor = tensor.clone().unsqueeze::<4>();
            tensor.expand([batch, heads, positions, head_dim])
        };
        let layers = prefix.iter();
        self.layers = layers
            .map(|(key, value)| (of_every_row(key), of_every_row(value)))
            .collect();
        self.length = prefix.first().map_or(0, |(key, _)| key.dims()[1]);
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
