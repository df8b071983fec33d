//! Keys and values of new positions, written into a cache in one launch.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::{self, *};
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::launch::{elem, units};
use crate::gpu::takes;

/// Whether the kernel takes these tensors.
pub(crate) fn takes_append(buffers: &[Tensor<4>; 2], new: &[Tensor<4>; 2]) -> bool {
    let dtype = buffers[0].dtype();
    let mut tensors = buffers.iter().chain(new);
    tensors.all(|tensor| tensor.dtype() == dtype && !tensor.is_autodiff() && takes(tensor))
}

/// As [`append_cached`](crate::append_cached), of what [`takes_append`].
pub(crate) fn append(buffers: [Tensor<4>; 2], new: [Tensor<4>; 2], past: usize) -> [Tensor<4>; 2] {
    let [keys, values] = buffers.map(Tensor::into_dispatch);
    let [key, value] = new.map(Tensor::into_dispatch);
    let (keys, values) = Dispatch::append_gpu(keys, values, key, value, past);
    [keys, values].map(Tensor::from_dispatch)
}

#[backend_extension(Cube, Fusion)]
trait AppendGpu: Backend {
    #[fusion(meta = |keys, values, _key, _value, _past| -> (TensorSpec, TensorSpec) {
        (keys.clone(), values.clone())
    })]
    fn append_gpu(
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        past: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// A unit for each value of the new keys, and the value at the same place.
#[cube(launch_unchecked)]
fn append_kernel<F: Float>(
    keys: &mut prelude::Tensor<F>,
    values: &mut prelude::Tensor<F>,
    key: &prelude::Tensor<F>,
    value: &prelude::Tensor<F>,
    past: usize,
    count: usize,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= count {
        terminate!();
    }
    let (heads, positions, head_dim) = (key.shape(1), key.shape(2), key.shape(3));
    let (d, i) = (i % head_dim, i / head_dim);
    let (position, i) = (i % positions, i / positions);
    let (head, row) = (i % heads, i / heads);
    let at = past + position;
    let to = row * keys.stride(0) + head * keys.stride(1) + at * keys.stride(2);
    let to = to + d * keys.stride(3);
    keys[to] = key[place(key, row, head, position, d)];
    let to = row * values.stride(0) + head * values.stride(1) + at * values.stride(2);
    let to = to + d * values.stride(3);
    values[to] = value[place(value, row, head, position, d)];
}

/// Where a value of new positions lies.
#[cube]
fn place<F: Float>(
    new: &prelude::Tensor<F>,
    row: usize,
    head: usize,
    position: usize,
    d: usize,
) -> usize {
    row * new.stride(0) + head * new.stride(1) + position * new.stride(2) + d * new.stride(3)
}

/// The tensor itself if nothing else holds its values, or a copy.
fn own(tensor: CubeTensor) -> CubeTensor {
    if tensor.can_mut() && tensor.is_nonoverlapping() {
        tensor
    } else {
        tensor.copy()
    }
}

impl AppendGpu for CubeBackend {
    fn append_gpu(
        keys: CubeTensor,
        values: CubeTensor,
        key: CubeTensor,
        value: CubeTensor,
        past: usize,
    ) -> (CubeTensor, CubeTensor) {
        let (keys, values) = (own(keys), own(values));
        let count = key.shape().num_elements();
        let (cubes, dim) = units(count);
        let elem = elem(&keys);
        // SAFETY: the caller has checked that all tensors have the same heads, and the buffers room.
        unsafe {
            append_kernel::launch_unchecked(
                &keys.client,
                cubes,
                dim,
                keys.clone().into_tensor_arg(),
                values.clone().into_tensor_arg(),
                key.into_tensor_arg(),
                value.into_tensor_arg(),
                past,
                count,
                elem,
            );
        }
        (keys, values)
    }
}
