//! Attention of one new token a row over the keys and values of earlier ones.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, activation::softmax};

use crate::AttentionShape;
use crate::cpu::attention::{Cache, Columns, decode};
use crate::cpu::buffer::filled;
use crate::flex::{contiguous, takes, tensor_of, values};

/// What each row's new token makes of the keys and values `[batch, kv_heads, positions,
/// head_dim]`, its own included: `[batch, heads · head_dim]`. `query` holds the queries in its
/// first `heads · head_dim` columns, `[batch, …]`. Only for tensors that record no gradients.
///
/// The specialised body reads keys and values where they lie in a larger buffer.
pub fn attend_cached(
    query: Tensor<2>,
    keys: Tensor<4>,
    values: Tensor<4>,
    shape: AttentionShape,
) -> Tensor<2> {
    if query.is_autodiff() || !(takes(&query) && takes(&keys) && takes(&values)) {
        return plain(query, keys, values, shape);
    }
    Tensor::from_dispatch(Dispatch::decode_kernel(
        query.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        shape,
    ))
}

fn plain(query: Tensor<2>, keys: Tensor<4>, values: Tensor<4>, shape: AttentionShape) -> Tensor<2> {
    let [batch, _] = query.dims();
    let (heads, head_dim) = (shape.heads, shape.head_dim);
    let query = query.slice([0..batch, 0..heads * head_dim]);
    let group = heads / shape.kv_heads;
    let query = query.reshape([batch, shape.kv_heads, group, head_dim]);
    let weights = softmax(query.matmul(keys.swap_dims(2, 3)) * shape.scale, 3);
    weights.matmul(values).reshape([batch, heads * head_dim])
}

#[backend_extension(Flex)]
trait DecodeKernel: Backend {
    fn decode_kernel(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;
}

/// The tensor as rows of `[capacity, head_dim]` for each head, and that capacity.
fn as_cache(tensor: FloatTensor<Flex>) -> (FloatTensor<Flex>, usize) {
    let [_, heads, positions, head_dim] = tensor.shape().dims();
    let layout = tensor.layout();
    let strides = layout.strides();
    let capacity = strides[1] as usize / head_dim;
    let fits = layout.start_offset() == 0
        && capacity >= positions
        && strides
            == [
                (heads * capacity * head_dim) as isize,
                strides[1],
                head_dim as isize,
                1,
            ];
    match fits && strides[1] as usize == capacity * head_dim {
        true => (tensor, capacity),
        false => (contiguous(tensor), positions),
    }
}

impl DecodeKernel for Flex {
    fn decode_kernel(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values_tensor: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let query = contiguous(query);
        let [batch, columns] = query.shape().dims();
        let [_, _, positions, _] = keys.shape().dims();
        let (mut keys, mut capacity) = as_cache(keys);
        let (mut values_tensor, of_values) = as_cache(values_tensor);
        if capacity != of_values {
            (keys, values_tensor) = (keys.to_contiguous(), values_tensor.to_contiguous());
            capacity = positions;
        }
        let lengths = vec![positions; batch];
        let cache = Cache {
            keys: keys.storage::<f32>(),
            values: values_tensor.storage::<f32>(),
            capacity,
            lengths: &lengths,
        };
        let width = shape.heads * shape.head_dim;
        let output = filled(batch * width, |out| {
            let query = Columns::new(values(&query), columns, 0);
            decode(shape.dims(), query, cache, out);
        });
        tensor_of(output, [batch, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tolerance};

    #[test]
    fn equals_the_plain_body() {
        let shape = AttentionShape {
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            scale: 0.3,
        };
        let device = Device::flex();
        let random =
            |dims: [usize; 4]| Tensor::<4>::random(dims, Distribution::Normal(0.0, 1.0), &device);
        let query: Tensor<2> = random([3, 1, 1, 96]).reshape([3, 96]);
        let (keys, values) = (random([3, 2, 40, 16]), random([3, 2, 40, 16]));
        for positions in [1, 7, 40] {
            let part = |cache: &Tensor<4>| cache.clone().slice([0..3, 0..2, 0..positions, 0..16]);
            let (keys, values) = (part(&keys), part(&values));
            let found = attend_cached(query.clone(), keys.clone(), values.clone(), shape);
            let expected = plain(query.clone(), keys, values, shape);
            let tolerance = Tolerance::<f32>::absolute(1e-5);
            found
                .into_data()
                .assert_approx_eq(&expected.into_data(), tolerance);
        }
    }
}
