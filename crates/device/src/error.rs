//! Why a device cannot be used.

use burn::tensor::DType;

use crate::limits::dtype_name;
use crate::{Backend, DeviceName};

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No device has this name.
    #[error(
        "{0:?} names no device: there are auto, cpu, cuda, metal, vulkan, wgpu and webgpu, with an \
         index where a machine has several (cuda:1), and wgpu:cpu for a graphics API's software \
         device"
    )]
    UnknownName(String),
    /// This build lacks the backend.
    #[error(
        "this build lacks {backend}, which {name} needs: build it with \
         `cargo build --release --features {backend}`"
    )]
    NotBuilt {
        /// The device.
        name: DeviceName,
        /// The backend that it needs.
        backend: Backend,
    },
    /// The machine has no such device.
    #[error("{name} is not on this machine, where {backend} has {found}; `peft devices` lists all")]
    Absent {
        /// The device.
        name: DeviceName,
        /// Its backend.
        backend: Backend,
        /// The devices that the backend has here.
        found: String,
    },
    /// The device exists, but opening it or computing on it failed.
    #[error(
        "{device} cannot be used: {reason}. Update its driver, or choose another device: \
         `peft devices` lists them"
    )]
    Failed {
        /// The device, as it calls itself.
        device: String,
        /// What its driver said.
        reason: String,
    },
    /// This machine lacks what the device's kernels are compiled with.
    #[error(
        "{name} compiles its kernels with NVRTC and the CUDA toolkit's headers ({reason}). Set \
         CUDA_PATH to the toolkit's folder and LD_LIBRARY_PATH to that of libnvrtc: docs/cuda.md"
    )]
    Toolkit {
        /// The device.
        name: DeviceName,
        /// What is missing.
        reason: String,
    },
    /// The self-test found a result that differs from the CPU's.
    #[error(
        "{device} computes wrongly: its {operation} gives {found} where the CPU has {expected}. \
         Update its driver, or choose another device: `peft devices` lists them"
    )]
    SelfTest {
        /// The device, as it calls itself.
        device: String,
        /// What was computed.
        operation: &'static str,
        /// The device's number.
        found: f32,
        /// The CPU's number.
        expected: f32,
    },
    /// The device cannot compute in a type.
    #[error(
        "{device} cannot compute in {}; it can in {supported}. Leave out what asks for it \
         (bf16, fp16, --dtype), or choose another device: `peft devices` lists them",
        dtype_name(*dtype)
    )]
    Dtype {
        /// The device, as it calls itself.
        device: String,
        /// The type that was asked for.
        dtype: DType,
        /// The types that it has.
        supported: String,
    },
    /// A tensor is larger than the device takes in one piece.
    #[error(
        "{tensor} takes {bytes} bytes, and {device} binds at most {limit} at once \
         (maxStorageBufferBindingSize). {way_out} another device: `peft devices` lists them with their \
         largest tensor, gigabytes on most GPUs"
    )]
    TooLarge {
        /// The tensor's name.
        tensor: String,
        /// Its size in bytes.
        bytes: u64,
        /// The device, as it calls itself.
        device: String,
        /// The bytes of the largest tensor that the device takes in one piece.
        limit: u64,
        /// What else helps, and the verb for choosing another device.
        way_out: &'static str,
    },
}
