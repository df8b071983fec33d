//! Attention of one new token per row to the keys and values of earlier tokens.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, activation::softmax};

use crate::AttentionOptions;
use crate::attention::{HiddenKeys, attention_scores};
use crate::cpu::attention::{Cache, Columns, decode};
use crate::cpu::buffer::filled;
use crate::flex::{contiguous, takes, tensor_of, values};

/// The first key that each row of a batch sees: the keys before it are padding.
#[derive(Clone, Debug)]
pub struct FirstKeys {
    rows: Vec<usize>,
    /// Where the body for GPUs reads them: copied there once for all layers and all clones.
    #[cfg(feature = "gpu")]
    on_device: std::sync::Arc<std::sync::OnceLock<Tensor<1, burn::tensor::Int>>>,
}

impl From<Vec<usize>> for FirstKeys {
    fn from(rows: Vec<usize>) -> Self {
        Self {
            rows,
            #[cfg(feature = "gpu")]
            on_device: std::sync::Arc::default(),
        }
    }
}

impl FirstKeys {
    /// The first key of each row.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    #[cfg(feature = "gpu")]
    fn on(&self, device: &burn::tensor::Device) -> Tensor<1, burn::tensor::Int> {
        let made = || {
            let rows: Vec<i32> = self.rows.iter().map(|&row| row as i32).collect();
            Tensor::from_data(rows.as_slice(), (device, burn::tensor::DType::I32))
        };
        self.on_device.get_or_init(made).clone()
    }
}

/// Returns the attention of each row's new token to the keys and values
/// `[batch, kv_heads, positions, head_dim]`, of which the last are its own:
/// `[batch, heads · head_dim]`. `query` is `[batch, …]`, with the queries in its first
/// `heads · head_dim` columns. The positions before `first`, which has one for each row, are
/// padding.
///
/// The specialised bodies read keys and values in place, as parts of a larger buffer. They take
/// tensors that record no gradients; the plain body takes any.
///
/// # Panics
/// If `first` leaves a row without a key or has another number of rows, or if the shapes do not fit
/// each other.
pub fn attend_cached(
    query: Tensor<2>,
    keys: Tensor<4>,
    values: Tensor<4>,
    first: Option<&FirstKeys>,
    options: AttentionOptions,
) -> Tensor<2> {
    let [batch, _, positions, _] = keys.dims();
    if let Some(first) = first {
        let first = first.rows();
        assert_eq!(first.len(), batch, "a first position for each row");
        assert!(
            first.iter().all(|&first| first < positions),
            "{first:?} of {positions}"
        );
    }
    #[cfg(feature = "gpu")]
    if crate::gpu::attention::takes_cache(&query, &keys, &values, &options) {
        let first = first.map(|first| first.on(&query.device()));
        return crate::gpu::attention::attend_cached(query, keys, values, first, options);
    }
    let within = positions - options.window.unwrap_or(positions).min(positions);
    let first: Vec<_> = match first {
        Some(first) => first.rows.iter().map(|&first| first.max(within)).collect(),
        None => vec![within; batch],
    };
    if query.is_autodiff() || !(takes(&query) && takes(&keys) && takes(&values)) {
        return plain(query, keys, values, &first, options);
    }
    Tensor::from_dispatch(Dispatch::decode_kernel(
        query.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        first,
        options,
    ))
}

fn plain(
    query: Tensor<2>,
    keys: Tensor<4>,
    values: Tensor<4>,
    first: &[usize],
    options: AttentionOptions,
) -> Tensor<2> {
    let [batch, kv_heads, positions, head_dim] = keys.dims();
    let query = query.slice([0..batch, 0..options.heads * head_dim]);
    let query = query.reshape([batch, options.heads, 1, head_dim]);
    // Positions that no row sees are left out.
    let from = first.iter().copied().min().unwrap_or(0);
    let seen =
        |cache: Tensor<4>| cache.slice([0..batch, 0..kv_heads, from..positions, 0..head_dim]);
    let first: Vec<_> = first.iter().map(|first| first - from).collect();
    let hidden = HiddenKeys::before(&first, positions - from, &query.device());
    let scores = attention_scores(query, seen(keys), &hidden, &options);
    let grouped = [batch, kv_heads, options.heads / kv_heads, positions - from];
    let weights = softmax(scores, 3).reshape(grouped);
    weights
        .matmul(seen(values))
        .reshape([batch, options.heads * head_dim])
}

#[backend_extension(Flex)]
trait DecodeKernel: Backend {
    fn decode_kernel(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        first: Vec<usize>,
        options: AttentionOptions,
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
    if fits && strides[1] as usize == capacity * head_dim {
        (tensor, capacity)
    } else {
        (contiguous(tensor), positions)
    }
}

impl DecodeKernel for Flex {
    fn decode_kernel(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values_tensor: FloatTensor<Self>,
        first: Vec<usize>,
        options: AttentionOptions,
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
        let seen: Vec<_> = first.into_iter().map(|first| first..positions).collect();
        let cache = Cache {
            keys: keys.storage::<f32>(),
            values: values_tensor.storage::<f32>(),
            capacity,
            seen: &seen,
        };
        let width = options.heads * options.head_dim;
        let output = filled(batch * width, |out| {
            let query = Columns::new(values(&query), columns, 0);
            decode(options.dims(), query, cache, out);
        });
        tensor_of(output, [batch, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DType;

    const BATCH: usize = 3;
    const CAPACITY: usize = 150;

    /// The same as plain loops in 64 bits.
    fn loops(
        [query, keys, values]: [&[f32]; 3],
        positions: usize,
        first: [usize; BATCH],
        options: AttentionOptions,
    ) -> Vec<f64> {
        let (heads, width) = (options.heads, options.head_dim);
        let mut out = vec![0.0; BATCH * heads * width];
        for (at, out) in out.chunks_exact_mut(width).enumerate() {
            let (row, head) = (at / heads, at % heads);
            let of_keys = row * options.kv_heads + head * options.kv_heads / heads;
            let cached = |position| (of_keys * CAPACITY + position) * width;
            let query = &query[row * query.len() / BATCH + head * width..][..width];
            let window = options.window.unwrap_or(positions).min(positions);
            let seen = first[row].max(positions - window)..positions;
            let weights = seen.clone().map(|position| {
                let pairs = query.iter().zip(&keys[cached(position)..]);
                let score: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let score = score * options.scale;
                let capped = options.softcap.map(|cap| cap * (score / cap).tanh());
                capped.unwrap_or(score).exp()
            });
            let weights: Vec<f64> = weights.collect();
            let sum: f64 = weights.iter().sum();
            for (weight, position) in weights.iter().zip(seen) {
                for (out, &value) in out.iter_mut().zip(&values[cached(position)..]) {
                    *out += weight / sum * f64::from(value);
                }
            }
        }
        out
    }

    #[test]
    fn both_bodies_equal_plain_loops() {
        let heads = [(4, 2, 16), (3, 1, 23), (2, 2, 96)];
        equal_plain_loops(&heads, true);
    }

    /// Compares the specialised body and, if `plain_too`, the plain one. Both compute in 32 bits, so
    /// a tensor in 16 bits adds one rounding.
    fn equal_plain_loops(heads: &[(usize, usize, usize)], plain_too: bool) {
        let random = |dims: [usize; 4]| -> Tensor<4> {
            let rows = dims[..3].iter().product();
            crate::testing::random([rows, dims[3]], 1.0).reshape(dims)
        };
        let host = |tensor: &Tensor<4>| tensor.clone().try_into_vec_as::<f32>().unwrap();
        for &(heads, kv_heads, head_dim) in heads {
            let base = AttentionOptions::new(heads, kv_heads, head_dim);
            let width: usize = base.widths().iter().sum();
            let query = random([1, 1, BATCH, width]);
            let keys = random([BATCH, kv_heads, CAPACITY, head_dim]);
            let values = random([BATCH, kv_heads, CAPACITY, head_dim]);
            let on_host = [&query, &keys, &values].map(host);
            let rounding = match query.dtype() {
                DType::F16 => 2.0f64.powi(-11),
                DType::BF16 => 2.0f64.powi(-8),
                _ => 0.0,
            };
            let query: Tensor<2> = query.reshape([BATCH, width]);
            let cases = [1, 7, CAPACITY].into_iter().flat_map(|positions| {
                let first = [[0; BATCH], [positions / 2, positions - 1, 0]];
                let options = [(None, None), (Some(5), None), (Some(60), Some(0.5))];
                first.into_iter().flat_map(move |first| {
                    options.map(|(window, softcap)| {
                        let options = AttentionOptions {
                            window,
                            softcap,
                            ..base
                        };
                        (positions, first, options)
                    })
                })
            });
            for (positions, first, options) in cases {
                let expected = loops(
                    on_host.each_ref().map(|v| &v[..]),
                    positions,
                    first,
                    options,
                );
                let run = || {
                    let cached = |cache: &Tensor<4>| cache.clone().slice_dim(2, 0..positions);
                    let (keys, values) = (cached(&keys), cached(&values));
                    attend_cached(
                        query.clone(),
                        keys,
                        values,
                        Some(&first.to_vec().into()),
                        options,
                    )
                };
                let plain = plain_too.then(|| crate::with_plain_bodies(run));
                for found in [run()].into_iter().chain(plain) {
                    let found = found.try_into_vec_as::<f32>().unwrap();
                    for (found, expected) in found.iter().zip(&expected) {
                        let error = (f64::from(*found) - expected).abs();
                        let bound = 1e-5 + rounding * expected.abs();
                        assert!(error < bound, "{found}, {expected}: {options:?}");
                    }
                }
            }
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn equals_plain_loops_on_a_gpu() {
        crate::testing::on_gpu(|| equal_plain_loops(&[(3, 1, 23), (2, 2, 96)], false));
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn equals_plain_loops_on_a_gpu_in_16_bits() {
        crate::testing::on_gpu_in_16_bits(|| {
            equal_plain_loops(&[(3, 1, 23), (2, 2, 96)], false);
        });
    }
}
