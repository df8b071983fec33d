//! The key-value cache of earlier positions, kept between decoding steps.

use burn::tensor::Tensor;
use burn_peft_kernels::append_cached;

/// By how many positions a full buffer grows.
const SPARE: usize = 128;

/// The keys and values of every layer, `[batch, heads, past, head_dim]` each, in buffers with room
/// to grow.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// Those of a layer are taken out while they are written.
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    length: usize,
}

impl KvCache {
    /// The number of cached positions.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all but the first `positions`.
    pub(crate) fn truncate(&mut self, positions: usize) {
        self.length = self.length.min(positions);
    }

    /// A cache that begins with keys and values for each layer, `[heads, positions, head_dim]`,
    /// which every row has before its own.
    pub(crate) fn begin(&mut self, prefix: &[(Tensor<3>, Tensor<3>)], batch: usize) {
        let of_every_row = |tensor: &Tensor<3>| {
            let [heads, positions, head_dim] = tensor.dims();
            let tensor = tensor.clone().unsqueeze::<4>();
            tensor.expand([batch, heads, positions, head_dim])
        };
        let layers = prefix.iter();
        self.layers = layers
            .map(|(key, value)| Some((of_every_row(key), of_every_row(value))))
            .collect();
        self.length = prefix.first().map_or(0, |(key, _)| key.dims()[1]);
    }

    /// Appends the keys and values of new positions to those of a layer and returns all of them. To
    /// be called for each layer in order, once a step.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let total = self.length + key.dims()[2];
        // Taken out, so that nothing else holds the buffers while they are written.
        let (keys, values) = match self.layers.get_mut(layer) {
            Some(kept) => kept.take().unzip(),
            None => {
                self.layers.push(None);
                (None, None)
            }
        };
        let earlier = [&keys, &values].into_iter().flatten();
        let records = earlier.chain([&key, &value]).any(Tensor::is_autodiff);
        // Tensors with a gradient are not written to.
        let [keys, values] = if records {
            [self.joined(keys, key), self.joined(values, value)]
        } else {
            let room = |buffer, new: &Tensor<4>| self.with_room(buffer, new, total);
            let buffers = [room(keys, &key), room(values, &value)];
            append_cached(buffers, [key, value], self.length)
        };
        let all = |buffer: &Tensor<4>| buffer.clone().slice_dim(2, 0..total);
        let parts = (all(&keys), all(&values));
        self.layers[layer] = Some((keys, values));
        parts
    }

    /// The first `self.length` positions of the buffer, and `new`.
    fn joined(&self, buffer: Option<Tensor<4>>, new: Tensor<4>) -> Tensor<4> {
        match buffer {
            Some(buffer) => Tensor::cat(vec![buffer.slice_dim(2, 0..self.length), new], 2),
            None => new,
        }
    }

    /// The buffer, or a larger one, with room for `total` positions like `new`.
    fn with_room(&self, buffer: Option<Tensor<4>>, new: &Tensor<4>, total: usize) -> Tensor<4> {
        let buffer = match buffer {
            Some(buffer) if buffer.dims()[2] >= total => return buffer,
            smaller => smaller,
        };
        let [batch, heads, _, head_dim] = new.dims();
        let capacity = total.next_multiple_of(SPARE);
        let options = (&new.device(), new.dtype());
        let grown = Tensor::zeros([batch, heads, capacity, head_dim], options);
        match buffer {
            Some(buffer) => {
                let past = [0..batch, 0..heads, 0..self.length, 0..head_dim];
                grown.slice_assign(past.clone(), buffer.slice(past))
            }
            None => grown,
        }
    }

    /// Counts the positions of a step, after its last layer.
    pub(crate) fn advance(&mut self, positions: usize) {
        self.length += positions;
    }
}
