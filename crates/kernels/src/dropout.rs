//! Dropout that keeps no mask.

use std::cell::Cell;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, IntDType, Tensor};

use crate::cpu::dropout;
use crate::cpu::random::{self, MIX_1, MIX_2, SPREAD, seed_words};
use crate::draw_seed;
use crate::flex::{contiguous, takes, tensor_of, values, with_flag};
use crate::seed::{Drawn, first_row, next_drawn};

/// On devices that record gradients, sets a share `probability` of the values of `x`,
/// `[tokens, d]`, to zero and scales the others by `1 / (1 - probability)`. On other devices,
/// returns `x`.
///
/// The specialised body keeps nothing but a seed, which it draws from the device's generator.
/// Inside [`with_seed`](crate::with_seed) every device drops the same values; outside, the plain
/// body uses Burn's dropout.
pub fn dropout(x: Tensor<2>, probability: f64) -> Tensor<2> {
    if probability == 0.0 || !x.is_autodiff() || !drops() {
        return x;
    }
    if !takes(&x) {
        let drawn = next_drawn();
        #[cfg(feature = "gpu")]
        if let Some(dropout) = drawn.and_then(|drawn| crate::gpu::Masked::new(probability, drawn))
            && crate::gpu::takes(&x)
        {
            return crate::gpu::dropout(x, dropout);
        }
        let seed = drawn.map(Drawn::seed);
        let rows = x.dims()[0];
        let device = x.device().without_autodiff();
        return plain(x, probability, seed, || {
            row_numbers(rows, &device).unsqueeze_dim(1)
        });
    }
    let seed = draw_seed(&x.device());
    let output = Dispatch::dropout_kernel(x.into_dispatch(), probability, seed);
    Tensor::from_dispatch(output)
}

thread_local! {
    pub(crate) static DROPS: Cell<bool> = const { Cell::new(true) };
}

/// Runs `body` without any dropout, on this thread.
pub fn without_dropout<R>(body: impl FnOnce() -> R) -> R {
    with_flag(&DROPS, false, body)
}

/// Whether dropout acts on this thread.
pub(crate) fn drops() -> bool {
    DROPS.get()
}

/// The probability with which a dropout layer acts on `input`, by Burn's rules.
pub fn dropout_probability(layer: &Dropout, input: &Tensor<2>) -> f64 {
    if layer.training.is_enabled() && input.is_autodiff() && drops() {
        layer.prob
    } else {
        0.0
    }
}

/// A dropout layer on `[tokens, d]`, as [`dropout()`].
pub fn apply_dropout(layer: &Dropout, x: Tensor<2>) -> Tensor<2> {
    let probability = dropout_probability(layer, &x);
    dropout(x, probability)
}

/// Dropout with these numbers of the rows, in the shape of `x` with a last axis of 1.
pub(crate) fn plain<const D: usize>(
    x: Tensor<D>,
    probability: f64,
    seed: Option<u64>,
    rows: impl FnOnce() -> Tensor<D, Int>,
) -> Tensor<D> {
    let dropout = seed.and_then(|seed| dropout::new(probability, seed));
    let Some(dropout) = dropout else {
        return DropoutConfig::new(probability).init().forward(x);
    };
    let factors = factors(dropout, rows(), x.dims());
    let dtype = x.dtype();
    x * factors.cast(dtype)
}

/// The numbers of `count` rows, from [the first](crate::with_first_row) on.
pub(crate) fn row_numbers(count: usize, device: &Device) -> Tensor<1, Int> {
    numbers(count, device) + i64::from(first_row())
}

/// The numbers from 0 on as unsigned 32-bit integers, which Burn's `arange` cannot make on WGPU.
pub(crate) fn numbers(count: usize, device: &Device) -> Tensor<1, Int> {
    Tensor::arange(0..count as i64, device).cast(IntDType::U32)
}

/// The factor of each value: 0, or the scale of those that stay. These are
/// [`row_key`](crate::cpu::random::row_key) and [`bits`](crate::cpu::random::bits) in plain
/// tensors.
fn factors<const D: usize>(
    dropout: random::Dropout,
    rows: Tensor<D, Int>,
    shape: [usize; D],
) -> Tensor<D> {
    let columns = numbers(shape[D - 1], &rows.device());
    let shifted = |x: Tensor<D, Int>, by: u32| {
        let low = x.clone().bitwise_right_shift_scalar(by);
        x.bitwise_xor(low)
    };
    let mixed = |x: Tensor<D, Int>| {
        let x = shifted(x, 16).mul_scalar(MIX_1);
        shifted(shifted(x, 15).mul_scalar(MIX_2), 16)
    };
    let [first, second] = seed_words(dropout.seed);
    let spread = rows.clone().mul_scalar(SPREAD);
    let first = mixed(rows.bitwise_xor_scalar(first)).expand(shape);
    let second = mixed(spread.bitwise_xor_scalar(second)).expand(shape);

    let x = columns.unsqueeze::<D>().expand(shape).bitwise_xor(first);
    let x = shifted(x, 16).mul_scalar(MIX_1).bitwise_xor(second);
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
    #[cfg(feature = "wgpu")]
    use crate::testing::{assert_same_gradients, random};
    use crate::{with_first_row, with_plain_bodies, with_seed};

    #[test]
    fn the_plain_body_drops_the_same_values() {
        let x = Tensor::<2>::ones([37, 29], &crate::testing::device()).autodiff();
        for probability in [0.05, 0.5] {
            let run = || with_seed(7, || dropout(x.clone(), probability).inner().into_data());
            with_plain_bodies(run).assert_eq(&run(), true);
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn a_gpu_drops_the_same_values() {
        crate::testing::on_gpu(|| {
            the_plain_body_drops_the_same_values();
            pieces_drop_what_the_whole_drops();
        });
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn a_gpu_drops_the_same_values_in_16_bits() {
        crate::testing::on_gpu_in_16_bits(|| {
            for probability in [0.05, 0.5] {
                // On the tape, where dropout acts.
                let run = |x: Tensor<2>| with_seed(7, || dropout(x.autodiff(), probability));
                let inputs = [random([37, 29], 1.0)];
                assert_same_gradients(&inputs, |[x]| run(x), |[x]| with_plain_bodies(|| run(x)));
            }
        });
    }

    #[test]
    fn pieces_drop_what_the_whole_drops() {
        let x = Tensor::<2>::ones([37, 29], &crate::testing::device()).autodiff();
        let part = |rows: std::ops::Range<usize>| {
            let part = x.clone().slice([rows.clone()]);
            with_first_row(rows.start, || {
                with_seed(7, || dropout(part.clone(), 0.3).inner())
            })
        };
        let run = || Tensor::cat(vec![part(0..5), part(5..36), part(36..37)], 0).into_data();
        part(0..37).into_data().assert_eq(&run(), true);
        with_plain_bodies(run).assert_eq(&run(), true);
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
        // The mean of 60,000 draws has a standard deviation of 0.0024.
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let gradients = output.clone().sum().backward();
        let gradient = x.grad(&gradients).unwrap().into_data();
        gradient.assert_eq(&output.inner().into_data(), true);
    }
}
