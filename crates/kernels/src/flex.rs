//! From tensors to slices and back, and whether that can be done.

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread::LocalKey;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, BackendTensor, Dispatch, DispatchTensorKind, ExtensionType, Flex};
use burn::tensor::{DType, Device, Element, FloatDType, Tensor, TensorData};
use burn_flex::FlexTensor;
use bytemuck::Pod;

use crate::cpu::{Matrix, Weight};

/// `BURN_PEFT_KERNELS=plain` leaves every operation to its plain body.
static PLAIN: LazyLock<bool> =
    LazyLock::new(|| std::env::var("BURN_PEFT_KERNELS").is_ok_and(|value| value == "plain"));

thread_local! {
    pub(crate) static PLAIN_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` with the plain bodies of all operations on this thread, for comparison.
pub fn with_plain_bodies<R>(body: impl FnOnce() -> R) -> R {
    with_flag(&PLAIN_HERE, true, body)
}

/// Runs `body` with another value of a flag of this thread.
pub(crate) fn with_flag<R>(
    flag: &'static LocalKey<Cell<bool>>,
    value: bool,
    body: impl FnOnce() -> R,
) -> R {
    struct Restore(&'static LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(flag, flag.replace(value));
    body()
}

/// The CPU, as Burn's backend `Flex`. Small computations that are done once are done there.
pub fn cpu_device() -> Device {
    Device::flex()
}

/// Whether operations on this device run the specialised bodies for the CPU.
///
/// They do if it is the CPU, unless the environment sets `BURN_PEFT_KERNELS=plain` or this is
/// called inside [`with_plain_bodies`].
pub fn is_specialised(device: &Device) -> bool {
    !is_plain() && *device == cpu_device()
}

/// Whether this is a GPU, that is, a device of Burn's backend `Cube`.
#[cfg(feature = "gpu")]
pub fn is_gpu(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    let device = device.clone().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Whether this is a GPU. It never is, since this build has no GPU backend.
#[cfg(not(feature = "gpu"))]
pub fn is_gpu(_: &Device) -> bool {
    false
}

/// Whether every operation is left to its plain body.
pub(crate) fn is_plain() -> bool {
    *PLAIN || PLAIN_HERE.get()
}

/// Whether the specialised bodies take this tensor.
pub(crate) fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && is_specialised(&tensor.device())
}

/// Whether a gradient may be asked for.
pub(crate) fn is_trained<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.is_autodiff() && tensor.is_tracked()
}

/// As [`takes`], for a weight, which may be in 16 bits.
pub(crate) fn takes_weight(weight: &Tensor<2>) -> bool {
    let takes = matches!(weight.dtype(), DType::F32 | DType::BF16 | DType::F16);
    takes && is_specialised(&weight.device())
}

/// The same weight in a type that products can read: f16 becomes f32.
pub(crate) fn widened(weight: &FlexTensor) -> FlexTensor {
    match weight.dtype() {
        DType::F16 => Flex::float_cast(weight.clone(), FloatDType::F32),
        _ => weight.clone(),
    }
}

/// A tensor on the tape, where gradients are recorded for it.
pub(crate) type OnTape<C> = FloatTensor<burn::backend::Autodiff<Flex, C>>;

/// The argument, or a tensor that nothing tracks in its place.
pub(crate) fn or_constant<C: CheckpointStrategy>(tensor: Option<OnTape<C>>) -> OnTape<C> {
    tensor.unwrap_or_else(|| OnTape::<C>::new(tensor_of(Vec::new(), [0])))
}

/// An argument that may be missing, in a form that Burn's dispatch takes.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "gpu"))]
pub(crate) enum Optional<B: Backend> {
    Given(FloatTensor<B>),
    Missing,
}

impl<B: Backend> Optional<B> {
    pub(crate) fn new(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Optional::Missing, Optional::Given)
    }

    pub(crate) fn given(self) -> Option<FloatTensor<B>> {
        match self {
            Optional::Given(tensor) => Some(tensor),
            Optional::Missing => None,
        }
    }
}

impl Optional<Dispatch> {
    pub(crate) fn of<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        Optional::new(tensor.map(Tensor::into_dispatch))
    }
}

/// The values of a tensor, row after row.
///
/// # Panics
/// If the tensor is a view; see [`contiguous`].
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice::<f32>()
        .expect("the tensor was made contiguous")
}

/// The same tensor with its values row after row; copies them only if they are not yet so.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.as_slice::<f32>() {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

/// The same matrix with a stride of 1 along one axis, which a product can read as it is.
pub(crate) fn readable(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides.contains(&1) && strides.iter().all(|&stride| stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A matrix whose storage a product can read; see [`readable`].
pub(crate) fn matrix(tensor: &FlexTensor) -> Matrix<'_, f32> {
    view(tensor)
}

/// As [`matrix`], in f32 or bf16.
pub(crate) fn weight(tensor: &FlexTensor) -> Weight<'_> {
    match tensor.dtype() {
        DType::BF16 => Weight::BF16(view(tensor)),
        _ => Weight::F32(view(tensor)),
    }
}

fn view<E: Element + Pod>(tensor: &FlexTensor) -> Matrix<'_, E> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let (rows, columns) = (shape[0], shape[1]);
    let data = &tensor.storage::<E>()[layout.start_offset()..];
    // With one row or column, any stride means the same.
    let strides = match (rows, columns) {
        (_, 1) => [strides[0] as usize, 1],
        (1, _) if strides[1] == 1 => [columns, 1],
        _ => [strides[0] as usize, strides[1] as usize],
    };
    Matrix::with_strides(data, [rows, columns], strides)
}

/// Runs `body` with a matrix from any device, in f32. An f32 matrix on the CPU is not copied.
pub(crate) fn with_matrix<R>(tensor: &Tensor<2>, body: impl FnOnce(Matrix<'_, f32>) -> R) -> R {
    if tensor.dtype() == DType::F32
        && let DispatchTensorKind::Flex(BackendTensor::Float(tensor)) =
            tensor.clone().into_dispatch().kind
    {
        return body(matrix(&readable(tensor)));
    }
    let [rows, cols] = tensor.dims();
    let values = tensor.to_data().convert::<f32>();
    let values = values.as_slice::<f32>().expect("just converted");
    body(Matrix::new(values, rows, cols))
}

/// A tensor of these values.
pub(crate) fn tensor_of<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A matrix of these values on any device, which records gradients where that does.
pub(crate) fn on_device(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    let plain = device.clone().without_autodiff();
    let tensor = Tensor::from_data(TensorData::new(values, shape), &plain);
    if device.is_autodiff() {
        tensor.autodiff()
    } else {
        tensor
    }
}
