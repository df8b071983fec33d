//! Any number of tensors as the arguments of one operation, deferred as Burn's own operations are.

use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, OperationFn, OperationIr, StreamId, TensorIr,
};
use burn::backend::fusion::{FusionBackend, FusionRuntime, FusionTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::MOST_UNITS;

type Runtime = <CubeBackend as FusionBackend>::FusionRuntime;
type Handle = <Runtime as FusionRuntime>::FusionHandle;

/// A tensor that is not computed yet.
pub(crate) type Lazy = FusionTensor<Runtime>;

/// Registers `run`, which computes tensors of 32-bit floats with the shapes `outputs` from the `inputs`,
/// of which there is at least one.
pub(crate) fn register(
    id: &str,
    inputs: Vec<Lazy>,
    outputs: Vec<Shape>,
    run: impl Fn(Vec<CubeTensor>) -> Vec<CubeTensor> + Send + Sync + 'static,
) -> Vec<Lazy> {
    let client = inputs[0].client.clone();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(Lazy::into_ir).collect();
    let outputs = outputs.into_iter();
    let outputs: Vec<TensorIr> = outputs
        .map(|shape| TensorIr::uninit(client.create_empty_handle(), shape, DType::F32))
        .collect();
    let description = CustomOpIr {
        id: id.into(),
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        scalars: Vec::new(),
    };
    let operation = OperationFn(move |handles: &mut HandleContainer<Handle>| {
        let inputs = inputs.iter();
        let inputs = inputs.map(|input| handles.get_float_tensor::<CubeBackend>(input));
        let inputs = inputs.collect();
        for (output, tensor) in outputs.iter().zip(run(inputs)) {
            handles.register_float_tensor::<CubeBackend>(&output.id, tensor);
        }
        Ok(())
    });
    client.register(
        StreamId::current(),
        OperationIr::Custom(description),
        operation,
    )
}

/// How a kernel finds the values of a tensor: value `i` lies at
/// `i / columns * row + i % columns * column`.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub columns: usize,
    pub row: usize,
    pub column: usize,
}

/// The tensor in a form that has a [`Place`].
pub(crate) fn placed(tensor: CubeTensor) -> (CubeTensor, Place) {
    let is_matrix = tensor.meta.shape().num_dims() == 2 && !tensor.meta.is_tiled();
    if is_matrix && !tensor.is_contiguous() {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        let place = Place {
            columns: shape[1],
            row: strides[0],
            column: strides[1],
        };
        return (tensor, place);
    }
    let tensor = into_contiguous(tensor);
    let place = Place {
        columns: size(&tensor).max(1),
        row: 0,
        column: 1,
    };
    (tensor, place)
}

/// The number of values.
pub(crate) fn size(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}

/// The values of a tensor, for a kernel that reads or writes no others.
pub(crate) fn buffer(tensor: CubeTensor) -> BufferArg {
    let length = tensor.handle.size_in_used() as usize / size_of::<f32>();
    // SAFETY: as long as the handle is.
    unsafe { BufferArg::from_raw_parts(tensor.handle, length) }
}

/// How many cubes share the work on the longest of some tensors, each unit taking some `values`.
pub(crate) fn cubes(longest: usize, values: usize, most: usize) -> u32 {
    longest
        .div_ceil(MOST_UNITS as usize * values)
        .clamp(1, most) as u32
}
