//! Products on devices in software, by the kernel that CubeCL infers from their sizes: to compile and
//! time others takes longer there than the fastest saves, and so sums are in one order in every run.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

fn rows_and_columns(x: &Shape, weight: &Shape) -> Shape {
    Shape::new([x.dims::<2>()[0], weight.dims::<2>()[1]])
}

#[backend_extension(Cube, Fusion)]
pub(crate) trait InferredProduct: Backend {
    /// `x · weight`, which are of one type.
    #[fusion(dtype = x, shape = rows_and_columns(x, weight))]
    fn inferred_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl InferredProduct for CubeBackend {
    fn inferred_product(x: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let dtype = x.dtype();
        matmul(x.clone(), weight.clone(), None, MatmulStrategy::Cube, dtype)
            .or_else(|_| matmul(x, weight, None, MatmulStrategy::default(), dtype))
            .expect("CubeCL has a kernel for every product")
    }
}

/// Whether this is the processor by way of a graphics API.
#[cfg(feature = "wgpu")]
pub(crate) fn is_software(device: &CubeDevice) -> bool {
    use burn::backend::WgpuDeviceKind;
    matches!(device, CubeDevice::Wgpu(device) if device.kind == WgpuDeviceKind::Cpu)
}

#[cfg(not(feature = "wgpu"))]
pub(crate) fn is_software(_: &CubeDevice) -> bool {
    false
}
