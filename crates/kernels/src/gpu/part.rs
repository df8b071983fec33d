//! A part of a tensor of whole numbers where it lies.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::IntTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Shape, Slice, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::tensor::CubeTensor;

/// The `length` values from `start` on, without a launch if the device binds buffers there.
pub(crate) fn part(all: Tensor<1, Int>, start: usize, length: usize) -> Tensor<1, Int> {
    assert!(
        start + length <= all.dims()[0],
        "{length} values at {start}"
    );
    Tensor::from_dispatch(Dispatch::part_gpu(all.into_dispatch(), start, length))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait PartGpu: Backend {
    #[fusion(meta = |all, _start, length| -> TensorSpec { TensorSpec::new(Shape::new([*length]), all.dtype) })]
    fn part_gpu(all: IntTensor<Self>, start: usize, length: usize) -> IntTensor<Self>;
}

impl PartGpu for CubeBackend {
    /// As Burn's own slice, which takes no part that ends where no buffer may begin.
    fn part_gpu(all: CubeTensor, start: usize, length: usize) -> CubeTensor {
        let size = all.dtype.size();
        let before = (start * size) as u64;
        let aligned = before.is_multiple_of(all.client.properties().memory.alignment);
        if length == 0 || !aligned || !all.is_contiguous() {
            return Self::int_slice(all, &[Slice::from(start..start + length)]);
        }
        let behind = ((all.shape()[0] - start - length) * size) as u64;
        CubeTensor::new(
            all.client.clone(),
            all.handle.offset_start(before).offset_end(behind),
            Metadata::new([length], [1]),
            all.device.clone(),
            all.dtype,
        )
    }
}

impl<B: PartGpu, C: CheckpointStrategy> PartGpu for Autodiff<B, C> {
    fn part_gpu(all: IntTensor<Self>, start: usize, length: usize) -> IntTensor<Self> {
        B::part_gpu(all, start, length)
    }
}
