//! Tensors as kernels take them, and how many workgroups they are launched in.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::adamw::starts;

/// The most workgroups in a dimension (WebGPU's `maxComputeWorkgroupsPerDimension`).
pub(crate) const MOST_CUBES: usize = 65_535;

/// The most units in a workgroup (WebGPU's `maxComputeInvocationsPerWorkgroup`).
pub(crate) const MOST_UNITS: u32 = 256;

/// At least `count` workgroups, numbered by `CUBE_POS`. There may be more, so kernels check the number.
pub(crate) fn cubes(count: usize) -> CubeCount {
    let columns = count.clamp(1, MOST_CUBES);
    let rows = count.div_ceil(columns).max(1);
    CubeCount::Static(columns as u32, rows as u32, 1)
}

/// At least `count` units in workgroups of [`MOST_UNITS`], numbered by `ABSOLUTE_POS`. There may be more,
/// so kernels check the number.
pub(crate) fn units(count: usize) -> (CubeCount, CubeDim) {
    let cubes = cubes(count.div_ceil(MOST_UNITS as usize));
    (cubes, CubeDim::new_1d(MOST_UNITS))
}

/// How many units share a row of `d` values, a power of two: few enough that each has work.
pub(crate) fn units_of_row(d: usize) -> u32 {
    let units = (d / 4).next_power_of_two().max(1) as u32;
    units.clamp(8, MOST_UNITS)
}

/// A new tensor on the device of another; its values are undefined.
pub(crate) fn empty<const D: usize>(
    like: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), dtype)
}

/// A new tensor of this one's shape and type; its values are undefined.
pub(crate) fn empty_like(tensor: &CubeTensor) -> CubeTensor {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    empty_device_contiguous_dtype(client, device, tensor.shape(), tensor.dtype)
}

/// A new tensor that has room for the values of all `tensors`, and where in it each of them begins.
pub(crate) fn together<'a>(
    like: &CubeTensor,
    tensors: impl Iterator<Item = &'a CubeTensor>,
) -> (CubeTensor, Vec<usize>) {
    // `starts` counts values of 32 bits.
    let each = size_of::<f32>() / like.elem_size();
    let lengths = tensors.map(|tensor| tensor.shape().num_elements().div_ceil(each));
    let (places, length) = starts(lengths);
    let all = empty(like, [length * each], like.dtype);
    (all, places.into_iter().map(|start| start * each).collect())
}

/// The values of `all` from `start` on as a tensor of this shape.
pub(crate) fn view(all: &CubeTensor, start: usize, shape: Shape) -> CubeTensor {
    let bytes = |values: usize| (values * all.elem_size()) as u64;
    let end = bytes(start + shape.num_elements());
    let rest = all.handle.size_in_used() - end;
    let handle = all.handle.clone();
    CubeTensor::new_contiguous(
        all.client.clone(),
        all.device.clone(),
        shape,
        handle.offset_start(bytes(start)).offset_end(rest),
        all.dtype,
    )
}

/// The same tensor with its values row after row; launches nothing if they already are.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A tensor's buffer, as an argument of a kernel.
pub(crate) fn buffer(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// A tensor's type, as an argument of a kernel.
pub(crate) fn elem(tensor: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(tensor.dtype)
}
