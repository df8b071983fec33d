//! Attention of one new token a row over a cache, in one launch.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};

use super::WIDEST;
use super::decode::{UNITS, decode_kernel};
use crate::AttentionOptions;
use crate::gpu::launch::{MOST_CUBES, contiguous, elem, empty};
use crate::gpu::takes;

/// Whether the kernel takes these tensors.
pub(crate) fn takes_cache(
    query: &Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    options: &AttentionOptions,
) -> bool {
    let types = [query.dtype(), keys.dtype(), values.dtype()];
    let alike = types.iter().all(|dtype| *dtype == types[0]);
    let launched = options.heads.max(query.dims()[0]) <= MOST_CUBES;
    let records = query.is_autodiff() || keys.is_autodiff() || values.is_autodiff();
    alike
        && launched
        && !records
        && options.head_dim <= WIDEST
        && takes(query)
        && takes(keys)
        && takes(values)
}

/// As [`attend_cached`](crate::attend_cached), `first` being `[batch]`.
pub(crate) fn attend_cached(
    query: Tensor<2>,
    keys: Tensor<4>,
    values: Tensor<4>,
    first: Option<Tensor<1, Int>>,
    options: AttentionOptions,
) -> Tensor<2> {
    let ([batch, width], [rows, kv_heads, _, head_dim]) = (query.dims(), keys.dims());
    assert_eq!(values.dims(), keys.dims(), "values and keys");
    assert_eq!(rows, batch, "rows of keys and of queries");
    let found = [kv_heads, head_dim];
    assert_eq!(found, [options.kv_heads, options.head_dim], "{options:?}");
    assert_eq!(options.heads % options.kv_heads, 0, "{options:?}");
    assert!(width >= options.widths()[0], "{width}: {options:?}");
    if let Some(first) = &first {
        assert_eq!(first.dims(), [batch], "a first position for each row");
    }
    let first = first.map_or(First::None, |first| First::Given(first.into_dispatch()));
    Tensor::from_dispatch(Dispatch::attend_cached_gpu(
        query.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        first,
        options,
    ))
}

/// The first key of each row, if it is not the first of the cache.
#[derive(ExtensionType)]
#[extension_type(fusion)]
enum First<B: Backend> {
    None,
    Given(IntTensor<B>),
}

#[backend_extension(Cube, Fusion)]
trait CachedGpu: Backend {
    #[fusion(dtype = query, shape = Shape::new([query[0], options.widths()[0]]))]
    fn attend_cached_gpu(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        #[extension_type] first: First<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self>;
}

impl CachedGpu for CubeBackend {
    fn attend_cached_gpu(
        query: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        first: First<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        let query = contiguous(query);
        let [keys, values] = [keys, values].map(|cached| match cached.meta.strides()[3] {
            1 => cached,
            _ => contiguous(cached),
        });
        let batch = query.shape()[0];
        let positions = keys.shape()[2];
        let out = empty(&query, [batch, options.widths()[0]], query.dtype);
        // Without padding the kernel gets another buffer in its place, and does not read it.
        let (pads, first, of_first) = match first {
            First::Given(first) => {
                let elem = elem(&first);
                (true, first, elem)
            }
            First::None => (false, query.clone(), dtype_to_storage_type(DType::I32)),
        };
        let types = [elem(&query), of_first];
        // SAFETY: all reads are within the shapes of `query` and the cache, and `first` has a position for
        // each row; `out` has the rows of `query`.
        unsafe {
            decode_kernel::launch_unchecked(
                &out.client,
                CubeCount::Static(options.heads as u32, batch as u32, 1),
                CubeDim::new_1d(UNITS as u32),
                query.into_tensor_arg(),
                keys.into_tensor_arg(),
                values.into_tensor_arg(),
                first.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                options.window.unwrap_or(positions).min(positions),
                options.scale as f32,
                options.softcap.unwrap_or(1.0) as f32,
                options.head_dim,
                options.heads / options.kv_heads,
                options.softcap.is_some(),
                pads,
                types,
            );
        }
        out
    }
}
