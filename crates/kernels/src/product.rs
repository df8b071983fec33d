//! A product with a frozen weight, which may be in 16 bits.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use crate::flex::is_trained;
#[cfg(feature = "gpu")]
use crate::{
    flex::is_plain,
    gpu::{
        narrow::Narrow,
        product::{GpuProduct, is_software},
    },
};

/// `x · weight`, `[rows, k]` and `[k, columns]`, in the type of `x`.
///
/// A GPU multiplies with a weight in 16 bits as it is, in both passes: its matrix units are made
/// for that, and no 32-bit copy is kept for the backward pass. The CPU's body, the reference,
/// widens the weight.
pub(crate) fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    if is_trained(&weight) || weight.dtype() == x.dtype() && !is_in_software(&x) {
        let weight = weight.cast(x.dtype());
        return x.matmul(weight);
    }
    let (x, weight) = (x.into_dispatch(), weight.without_autodiff().into_dispatch());
    Tensor::from_dispatch(Dispatch::frozen_product(x, weight))
}

/// The product with a frozen weight, on each backend.
#[backend_extension(
    Flex,
    Cube: cfg(feature = "gpu"),
    Autodiff,
)]
pub(crate) trait FrozenProduct: Backend {
    /// `x · weight`, in the type of `x`.
    fn frozen_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype().into();
        Self::float_matmul(x, Self::float_cast(weight, dtype))
    }
}

impl FrozenProduct for Flex {}

/// Whether a product with this has the kernel for devices in software.
#[cfg(feature = "gpu")]
fn is_in_software(x: &Tensor<2>) -> bool {
    use burn::backend::DispatchDevice;
    match x.device().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => !is_plain() && is_software(device),
        _ => false,
    }
}

#[cfg(not(feature = "gpu"))]
fn is_in_software(_: &Tensor<2>) -> bool {
    false
}

#[cfg(feature = "gpu")]
impl FrozenProduct for burn::backend::Cube {
    fn frozen_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;
        use burn::tensor::FloatDType;

        let in_software = is_software(x.client.device());
        let dtype = FloatDType::from(x.dtype());
        if x.dtype() == weight.dtype() {
            return if in_software {
                Self::gpu_product(x, weight, dtype)
            } else {
                Self::float_matmul(x, weight)
            };
        }
        let (narrow, sizes) = Self::narrowed(x, weight.dtype().into());
        let product = if in_software {
            Self::gpu_product(narrow, weight, dtype)
        } else {
            // Burn fuses the cast and what follows with the product.
            Self::float_cast(Self::float_matmul(narrow, weight), dtype)
        };
        Self::float_mul(product, sizes)
    }
}

impl<B: FrozenProduct, C: CheckpointStrategy> FrozenProduct for Autodiff<B, C> {
    fn frozen_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = weight.into_primitive();
        let prepared = FrozenProductBackward.prepare::<C>([x.node()]);
        let output = B::frozen_product(x.into_primitive(), weight.clone());
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(weight, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct FrozenProductBackward;

impl<B: FrozenProduct> Backward<B, 1> for FrozenProductBackward {
    /// The weight.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let weight = B::float_transpose(ops.state);
            grads.register::<B>(node.id, B::frozen_product(grad, weight));
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "wgpu")]
    use burn::tensor::TensorData;
    use burn::tensor::{FloatDType, Tolerance};

    use super::*;
    use crate::testing::random;

    /// Rows of very different sizes, one of zeros, one with a single value among zeros.
    #[cfg(feature = "wgpu")]
    fn rows(k: usize) -> Vec<f32> {
        let mut rows = crate::testing::numbers(ROWS * k, 3);
        let sizes = [1e-7, 1e5, 0.0, 1e-20, 1e20, 1.0];
        for (row, size) in rows.chunks_exact_mut(k).zip(sizes) {
            row.iter_mut().for_each(|value| *value *= size);
        }
        rows[5 * k + 1..].fill(0.0);
        rows
    }

    #[cfg(feature = "wgpu")]
    const ROWS: usize = 6;

    /// In 16 bits each row is as exact as its largest number in that type.
    #[cfg(feature = "wgpu")]
    #[test]
    fn in_16_bits_rows_keep_their_size_on_a_gpu() {
        use burn::tensor::Device;

        for (dtype, bits) in [(FloatDType::F16, 10), (FloatDType::BF16, 7)] {
            crate::testing::on_gpu(|| {
                let device = crate::testing::device();
                if !device.supports_dtype(dtype) {
                    return eprintln!("not run: the GPU has no {dtype:?}");
                }
                for [k, columns] in [[1, 1], [33, 20], [3000, 70]] {
                    let rows = TensorData::new(rows(k), [ROWS, k]);
                    let weight = random([k, columns], 0.1).cast(dtype);
                    let on = |device: &Device| Tensor::<2>::from_data(rows.clone(), device);
                    let found = product(on(&device), weight.clone()).into_data();
                    let weight = Tensor::<2>::from_data(weight.into_data(), &Device::flex());
                    let wide = weight.cast(FloatDType::F32);
                    let expected = on(&Device::flex()).matmul(wide).into_data();
                    let [found, expected] =
                        [found, expected].map(|data| data.try_into_vec::<f32>());
                    let (found, expected) = (found.unwrap(), expected.unwrap());
                    for (found, expected) in found.chunks(columns).zip(expected.chunks(columns)) {
                        let largest = expected.iter().fold(0.0f32, |m, value| m.max(value.abs()));
                        for (found, expected) in found.iter().zip(expected) {
                            let difference = (found - expected).abs();
                            let bound = largest / (1 << bits) as f32;
                            assert!(difference <= bound, "{found}, not {expected}, of {largest}");
                        }
                    }
                }
            });
        }
    }

    /// The gradient is that of a product with the same numbers in 32 bits.
    #[test]
    fn a_frozen_weight_has_its_gradient() {
        // Of one sign: no sum cancels, so each is as exact as its parts.
        let weight = random([33, 20], 1.0).abs().cast(FloatDType::F16);
        let run = |weight: Tensor<2>| {
            let x = Tensor::<2>::from_data([[0.5; 33], [-2.0; 33]], &weight.device());
            let x = x.autodiff().require_grad();
            let output = product(x.clone(), weight);
            let gradient = x.grad(&output.clone().square().sum().backward()).unwrap();
            [output.inner().into_data(), gradient.into_data()]
        };
        let expected = run(weight.clone().cast(FloatDType::F32));
        for (found, expected) in run(weight).iter().zip(&expected) {
            found.assert_approx_eq::<f32>(expected, Tolerance::relative(1e-5));
        }
    }

    /// Of sizes that fill no tile, of weights that lie row after row and column after column.
    #[cfg(feature = "wgpu")]
    fn is_the_cpus() {
        use crate::testing::assert_same_gradients;
        use burn::tensor::Device;

        for [rows, k, columns] in [[1, 1, 1], [5, 33, 20], [17, 12, 36], [40, 64, 4]] {
            let weight = random([k, columns], 1.0);
            let turned = random([columns, k], 1.0).transpose();
            for weight in [weight, turned] {
                let on_cpu = Tensor::<2>::from_data(weight.to_data(), &Device::flex());
                assert_same_gradients(
                    &[random([rows, k], 1.0)],
                    |[x]| product(x, weight.clone()),
                    |[x]| {
                        let weight = on_cpu.clone().cast(x.dtype());
                        x.matmul(weight.autodiff())
                    },
                );
            }
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn is_the_cpus_on_a_gpu() {
        crate::testing::on_gpu(is_the_cpus);
    }
}
