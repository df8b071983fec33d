//! Any number of tensors as the arguments of one operation, deferred as Burn's own operations are.

use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, OperationFn, OperationIr, StreamId, TensorIr,
};
use burn::backend::fusion::{FusionBackend, FusionRuntime, FusionTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::MOST_UNITS;

type Runtime = <CubeBackend as FusionBackend>::FusionRuntime;
type Deferred = <Runtime as FusionRuntime>::FusionHandle;

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
    let operation = OperationFn(move |handles: &mut HandleContainer<Deferred>| {
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
/// `begin + i / columns * row + i % columns * column` of its buffer.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Place {
    pub length: usize,
    pub buffer: usize,
    pub begin: usize,
    pub columns: usize,
    pub row: usize,
    pub column: usize,
}

/// The place with this number: the code that follows is there once, whatever the number of tensors.
#[cube]
pub(crate) fn place_at(places: &Sequence<Place>, number: usize) -> Place {
    let mut length = 0usize;
    let mut buffer = 0usize;
    let mut begin = 0usize;
    let mut columns = 1usize;
    let mut row = 0usize;
    let mut column = 0usize;
    #[unroll]
    for i in 0..places.len() {
        if number == i {
            let place = &places[i];
            length = place.length;
            buffer = place.buffer;
            begin = place.begin;
            columns = place.columns;
            row = place.row;
            column = place.column;
        }
    }
    Place {
        length,
        buffer,
        begin,
        columns,
        row,
        column,
    }
}

/// Value `i` of the tensor at this place.
#[cube]
pub(crate) fn value_at(buffers: &Sequence<Box<[f32]>>, place: &Place, i: usize) -> f32 {
    let at = place.begin + i / place.columns * place.row + i % place.columns * place.column;
    let mut value = 0.0f32;
    #[unroll]
    for buffer in 0..buffers.len() {
        if place.buffer == buffer {
            value = buffers[buffer][at];
        }
    }
    value
}

/// Buffers that a kernel reads. Tensors that share one, such as views of the parameters after a step,
/// need it once.
#[derive(Default)]
pub(crate) struct Buffers(Vec<Handle>);

impl Buffers {
    /// A whole buffer is bound only if it is not larger: 128 MiB, which every device can bind.
    const MOST_BYTES: u64 = 1 << 27;

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a tensor: an argument for kernels that read it from these buffers.
    pub fn place(&mut self, tensor: &CubeTensor) -> PlaceLaunch {
        let is_matrix = tensor.meta.shape().num_dims() == 2 && !tensor.meta.is_tiled();
        let tensor = if is_matrix {
            tensor.clone()
        } else {
            into_contiguous(tensor.clone())
        };
        let length = size(&tensor);
        let [columns, row, column] = if tensor.is_contiguous() {
            [length.max(1), 0, 1]
        } else {
            let strides = tensor.meta.strides();
            [tensor.meta.shape()[1], strides[0], strides[1]]
        };
        let mut whole = tensor.handle;
        let mut begin = 0;
        if whole.size() <= Self::MOST_BYTES {
            begin = whole.offset_start.take().unwrap_or(0) as usize / size_of::<f32>();
            whole.offset_end = None;
        }
        let mut buffers = self.0.iter();
        let known = buffers.position(|other| is_same(other, &whole));
        let buffer = known.unwrap_or_else(|| {
            self.0.push(whole);
            self.0.len() - 1
        });
        PlaceLaunch::new(length, buffer, begin, columns, row, column)
    }

    /// The buffers as the argument of a kernel that reads nothing outside of the tensors.
    pub fn argument(self) -> SequenceArg<Box<[f32]>> {
        self.0.into_iter().map(values).collect()
    }
}

fn is_same(a: &Handle, b: &Handle) -> bool {
    let range = |handle: &Handle| (handle.offset_start, handle.offset_end);
    a.memory.descriptor() == b.memory.descriptor() && range(a) == range(b)
}

/// The number of values.
pub(crate) fn size(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}

/// The values of a tensor, for a kernel that reads or writes no others.
pub(crate) fn buffer(tensor: CubeTensor) -> BufferArg {
    values(tensor.handle)
}

fn values(handle: Handle) -> BufferArg {
    let length = handle.size_in_used() as usize / size_of::<f32>();
    // SAFETY: as long as the handle is.
    unsafe { BufferArg::from_raw_parts(handle, length) }
}

/// How many cubes share the work on the longest of some tensors, each unit taking some `values`.
pub(crate) fn cubes(longest: usize, values: usize, most: usize) -> u32 {
    longest
        .div_ceil(MOST_UNITS as usize * values)
        .clamp(1, most) as u32
}
