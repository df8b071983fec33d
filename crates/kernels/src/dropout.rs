//! Dropout that keeps no mask.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::nn::DropoutConfig;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::cpu::dropout;
use crate::cpu::random::{Dropout, MIX_1, MIX_2, row_key};
use crate::draw_seed;
use crate::flex::{contiguous, takes, tensor_of, values};
use crate::seed::next_seed;

/// Sets a share `probability` of the values of `x`, `[tokens, d]`, to zero and scales the others
/// by `1 / (1 - probability)`, on devices that record gradients; elsewhere it is `x`.
///
/// The specialised body keeps nothing but a seed, which it draws from the device's generator. Under
/// [`with_seed`](crate::with_seed) every device drops the same values; elsewhere the plain body
/// leaves them to Burn.
pub fn dropout(x: Tensor<2>, probability: f64) -> Tensor<2> {
    if probability == 0.0 || !x.is_autodiff() {
        return x;
    }
    if !takes(&x) {
        let rows = 0..x.dims()[0] as u64;
        return plain(x, probability, next_seed(), rows, 0);
    }
    let seed = draw_seed(&x.device());
    let output = Dispatch::dropout_kernel(x.into_dispatch(), probability, seed);
    Tensor::from_dispatch(output)
}

/// Dropout of rows of these numbers, whose first column is `column`.
pub(crate) fn plain<const D: usize>(
    x: Tensor<D>,
    probability: f64,
    seed: Option<u64>,
    rows: impl Iterator<Item = u64>,
    column: usize,
) -> Tensor<D> {
    let dropout = seed.and_then(|seed| dropout::new(probability, seed));
    let Some(dropout) = dropout else {
        return DropoutConfig::new(probability).init().forward(x);
    };
    let shape = x.shape();
    let columns = column..column + shape[D - 1];
    let factors = factors(dropout, rows, columns, &x.device()).reshape(shape);
    let dtype = x.dtype();
    x * factors.cast(dtype)
}

/// 0, or what the values that stay are scaled by, `[rows, columns]`: [`bits`] in plain tensors.
fn factors(
    dropout: Dropout,
    rows: impl Iterator<Item = u64>,
    columns: Range<usize>,
    device: &Device,
) -> Tensor<2> {
    let device = device.clone().without_autodiff();
    let words = |values: Vec<u32>, shape: [usize; 2]| {
        Tensor::<2, Int>::from_data(TensorData::new(values, shape), (&device, DType::U32))
    };
    let (first, second): (Vec<_>, Vec<_>) =
        rows.map(|row| row_key(dropout.seed, row).words()).unzip();
    let shape = [first.len(), columns.len()];
    let of_rows = |key: Vec<u32>| words(key, [shape[0], 1]).expand(shape);
    let columns = words(columns.map(|column| column as u32).collect(), [1, shape[1]]);
    let shifted =
        |x: Tensor<2, Int>, by: u32| x.clone().bitwise_xor(x.bitwise_right_shift_scalar(by));

    let x = columns.expand(shape).bitwise_xor(of_rows(first));
    let x = shifted(x, 16)
        .mul_scalar(MIX_1)
        .bitwise_xor(of_rows(second));
    let x = shifted(shifted(x, 15).mul_scalar(MIX_2), 16);
    x.greater_equal_elem(dropout.threshold()).float() * dropout.scale()
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
    use crate::{with_plain_bodies, with_seed};

    #[test]
    fn the_plain_body_drops_the_same_values() {
        let x = Tensor::<2>::ones([37, 29], &Device::flex()).autodiff();
        for probability in [0.05, 0.5] {
            let run = || with_seed(7, || dropout(x.clone(), probability).inner().into_data());
            with_plain_bodies(run).assert_eq(&run(), true);
        }
    }

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
