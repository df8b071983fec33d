//! Bodies for GPUs in CubeCL: one source for WGPU, Vulkan, Metal and CUDA.
//!
//! An operation is a trait of its passes, implemented for [`CubeBackend`], where a pass is one or
//! two launches. Burn's macro defers each pass under `Fusion`. `Autodiff` is written by hand, and its
//! backward pass calls the passes of the trait, so those are deferred too. Sums are computed in 32
//! bits, whatever the tensors' type. Kernels use no subgroup instructions, because not every device
//! has them.

mod activation;
pub(crate) mod adamw;
pub(crate) mod attention;
mod curve;
mod dropout;
mod glu;
mod launch;
mod lora;
pub(crate) mod many;
mod mask;
pub(crate) mod narrow;
pub(crate) mod norm;
mod part;
pub(crate) mod product;
mod reduce;
mod rope;
mod row_norm;
mod seeds;
mod small_product;
mod total;
mod vocabulary;

use burn::tensor::{DType, Tensor};

use crate::flex::{is_gpu, is_plain};

pub(crate) use activation::activate;
pub(crate) use dropout::dropout;
pub(crate) use glu::{glu, packed_glu};
pub(crate) use lora::{Base, Layer, lora_linear, lora_linears, takes_lora, takes_together};
pub(crate) use mask::Masked;
pub(crate) use part::part;
pub(crate) use rope::rope;
pub(crate) use row_norm::{layer_norm, rms_norm};
pub(crate) use total::total;
pub(crate) use vocabulary::losses_of_rows;

/// Whether the bodies for GPUs take this tensor: it holds floating-point numbers on one of CubeCL's
/// devices.
pub(crate) fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    let is_float = matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16);
    is_float && !is_plain() && is_gpu(&tensor.device())
}

/// Whether the bodies for GPUs take both tensors, which must have the same type.
pub(crate) fn takes_both<const D: usize, const E: usize>(a: &Tensor<D>, b: &Tensor<E>) -> bool {
    takes(a) && takes(b) && a.dtype() == b.dtype()
}

/// How many tensors a kernel may read and write on this tensor's device; 0 on the CPU.
pub(crate) fn most_bindings<const D: usize>(tensor: &Tensor<D>) -> u32 {
    use burn::backend::DispatchDevice;
    match tensor.device().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => device.client().properties().hardware.max_bindings,
        _ => 0,
    }
}
