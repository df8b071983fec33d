//! Dropout that keeps no mask.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::nn::DropoutConfig;
use burn::tensor::Tensor;

use crate::cpu::dropout;
use crate::draw_seed;
use crate::flex::{contiguous, takes, tensor_of, values};

/// Sets a share `probability` of the values of `x`, `[tokens, d]`, to zero and scales the others
/// by `1 / (1 - probability)`, on devices that record gradients; elsewhere it is `x`.
///
/// The specialised body keeps nothing but a seed, which it draws from the device's generator.
pub fn dropout(x: Tensor<2>, probability: f64) -> Tensor<2> {
    if probability == 0.0 || !x.is_autodiff() {
        return x;
    }
    if !takes(&x) {
        return DropoutConfig::new(probability).init().forward(x);
    }
    let seed = draw_seed(&x.device());
    let output = Dispatch::dropout_kernel(x.into_dispatch(), probability, seed);
    Tensor::from_dispatch(output)
}

#[backend_extension(Flex, Autodiff)]
trait DropoutKernel: Backend {
    fn dropout_kernel(x: FloatTensor<Self>, probability: f64, seed: u64) -> FloatTensor<Self>;
}

impl DropoutKernel for Flex {
    fn dropout_kernel(x: FloatTensor<Self>, probability: f64, seed: u64) -> FloatTensor<Self> {
        let [rows, d] = x.shape().dims();
        let x = contiguous(x);
        let mut output = values(&x).to_vec();
        if let Some(dropout) = dropout::new(probability, seed) {
            dropout::drop_rows(&mut output, d, dropout);
        }
        tensor_of(output, [rows, d])
    }
}

impl<C: CheckpointStrategy> DropoutKernel for Autodiff<Flex, C> {
    fn dropout_kernel(x: FloatTensor<Self>, probability: f64, seed: u64) -> FloatTensor<Self> {
        let prepared = DropoutBackward.prepare::<C>([x.node()]);
        let output = Flex::dropout_kernel(x.into_primitive(), probability, seed);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((probability, seed), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl Backward<Flex, 1> for DropoutBackward {
    /// Probability and seed.
    type State = (f64, u64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        if let Some(node) = x {
            let (probability, seed) = ops.state;
            grads.register::<Flex>(node.id, Flex::dropout_kernel(grad, probability, seed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn keeps_the_mean_and_repeats_its_mask_for_the_gradient() {
        let device = Device::flex();
        device.seed(3);
        let x = Tensor::<2>::ones([200, 300], &device);
        let plain = dropout(x.clone(), 0.25).into_data();
        plain.assert_eq(&x.clone().into_data(), true);
        let x = x.autodiff().require_grad();
        let output = dropout(x.clone(), 0.25);
        let mean = output.clone().inner().mean().into_scalar::<f32>();
        // Of 60,000 draws the mean's standard deviation is 0.0024.
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let gradients = output.clone().sum().backward();
        let gradient = x.grad(&gradients).unwrap().into_data();
        gradient.assert_eq(&output.inner().into_data(), true);
    }
}
