//! Burn's backends, and which of them this build has.

use std::fmt;

use burn::tensor::Device;

/// A backend, by the name of its cargo feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The CPU: Burn's flex backend with this project's kernels.
    Cpu,
    /// NVIDIA's CUDA.
    Cuda,
    /// Apple's Metal.
    Metal,
    /// Vulkan, with shaders as SPIR-V.
    Vulkan,
    /// Whatever WGPU finds (Vulkan, Metal, DirectX 12), with shaders as WGSL.
    Wgpu,
    /// WebGPU, as browsers have it.
    Webgpu,
}

impl Backend {
    /// Every backend, in the order in which `auto` tries those with a GPU.
    pub const ALL: [Self; 6] = [
        Self::Cuda,
        Self::Metal,
        Self::Vulkan,
        Self::Wgpu,
        Self::Webgpu,
        Self::Cpu,
    ];

    /// Its name, which is also that of its cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Webgpu => "webgpu",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Webgpu => cfg!(feature = "webgpu"),
        }
    }

    /// The devices that it has on this machine, in the order of their indices: first GPUs, then
    /// software devices.
    pub(crate) fn devices(self) -> [Vec<Device>; 2] {
        let devices = self.enumerate();
        let (software, gpus) = devices.into_iter().partition(is_software);
        [gpus, software]
    }

    fn enumerate(self) -> Vec<Device> {
        #[allow(unused_imports)] // It is not used without a GPU's feature.
        use burn::tensor::DeviceType;
        match self {
            Self::Cpu => vec![Device::flex()],
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::enumerate(DeviceType::Cuda).into_iter().collect(),
            #[cfg(feature = "metal")]
            Self::Metal => Device::enumerate(DeviceType::Metal).into_iter().collect(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::enumerate(DeviceType::Vulkan).into_iter().collect(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::enumerate(DeviceType::Wgpu).into_iter().collect(),
            #[cfg(feature = "webgpu")]
            Self::Webgpu => Device::enumerate(DeviceType::WebGpu).into_iter().collect(),
            #[allow(unreachable_patterns)] // With every feature.
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether this is a CPU that a graphics API shows as a device.
#[cfg(feature = "wgpu")]
fn is_software(device: &Device) -> bool {
    use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
    match device.as_dispatch() {
        DispatchDevice::Cube(CubeDevice::Wgpu(device)) => device.kind == WgpuDeviceKind::Cpu,
        _ => false,
    }
}

#[cfg(not(feature = "wgpu"))]
fn is_software(_: &Device) -> bool {
    false
}
