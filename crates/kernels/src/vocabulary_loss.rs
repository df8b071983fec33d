//! Projection to the vocabulary and cross-entropy in one.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{FloatDType, IndexingUpdateOp, Int, Tensor};

use crate::HeadWeight;
use crate::cpu::vocabulary;
use crate::flex::{contiguous, is_trained, takes, tensor_of, values};
use crate::product::product;
use crate::stored::{Readable, Stored, inner_of};

/// The rows in pieces, each of as many as can have their logits in memory at once: 32 MiB of 32-bit
/// floats.
pub fn pieces_of_rows(rows: usize, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    const LOGITS: usize = 8 << 20;
    let step = (LOGITS / vocab).clamp(1, rows.max(1));
    let starts = (0..rows).step_by(step);
    starts.map(move |start| start..rows.min(start + step))
}

/// The target of a row that predicts nothing, where [`takes_no_target`] says so.
pub const NO_TARGET: i32 = i32::MIN;

/// Whether [`vocabulary_loss`] takes rows that predict nothing: on GPUs.
pub fn takes_no_target(hidden: &Tensor<2>, weight: &HeadWeight) -> bool {
    #[cfg(feature = "gpu")]
    return crate::gpu::takes(hidden) && !weight.is_trained() && hidden.dims()[0] > 0;
    #[cfg(not(feature = "gpu"))]
    {
        let _ = (hidden, weight);
        false
    }
}

/// Returns the sum of `-log softmax(hidden · weightᵀ)[target]` over the rows, `[1]`. `hidden` is
/// `[rows, d]`, `weight` `[vocab, d]` and `targets` `[rows]`.
///
/// The gradient has a closed form (`softmax(logits) - onehot(target)`) and is made in the same
/// pass as the loss: the logits are computed once, in pieces, and never kept. A trained weight
/// takes the plain body, which works in pieces of rows.
///
/// # Panics
/// If a target is not a row of `weight`. A GPU does not check: with a frozen weight the result is
/// then NaN.
pub fn vocabulary_loss(
    hidden: Tensor<2>,
    weight: impl Into<HeadWeight>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let weight = weight.into();
    let is_trained = weight.is_trained();
    #[cfg(feature = "gpu")]
    if takes_no_target(&hidden, &weight) {
        let weight = weight.dense(&hidden.device());
        return crate::gpu::total(crate::gpu::losses_of_rows(hidden, weight, targets));
    }
    if !(takes(&hidden) && weight.is_taken()) || is_trained {
        let weight = weight.dense(&hidden.device());
        let weight = if is_trained {
            weight.cast(FloatDType::F32)
        } else {
            weight
        };
        return plain(hidden, weight, targets);
    }
    Tensor::from_dispatch(Dispatch::vocabulary_kernel(
        hidden.into_dispatch(),
        weight.stored(),
        targets.into_dispatch(),
    ))
}

#[backend_extension(Flex, Autodiff)]
trait VocabularyKernel: Backend {
    fn vocabulary_kernel(
        hidden: FloatTensor<Self>,
        #[extension_type] weight: Stored<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self>;
}

fn on_cpu(
    hidden: FloatTensor<Flex>,
    weight: Stored<Flex>,
    targets: IntTensor<Flex>,
    with_gradient: bool,
) -> (FloatTensor<Flex>, Option<FloatTensor<Flex>>) {
    let [rows, d] = hidden.shape().dims();
    let (hidden, weight) = (contiguous(hidden), Readable::from(weight));
    let targets: Vec<usize> = targets
        .into_data()
        .iter::<i64>()
        .map(|id| id as usize)
        .collect();
    let (loss, gradient) = weight
        .with(|weight| vocabulary::cross_entropy(values(&hidden), weight, &targets, with_gradient));
    let gradient = gradient.map(|gradient| tensor_of(gradient, [rows, d]));
    (tensor_of(vec![loss], [1]), gradient)
}

impl VocabularyKernel for Flex {
    fn vocabulary_kernel(
        hidden: FloatTensor<Self>,
        weight: Stored<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        on_cpu(hidden, weight, targets, false).0
    }
}

impl<C: CheckpointStrategy> VocabularyKernel for Autodiff<Flex, C> {
    fn vocabulary_kernel(
        hidden: FloatTensor<Self>,
        weight: Stored<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let prepared = VocabularyBackward.prepare::<C>([hidden.node()]);
        let (hidden, (weight, _)) = (hidden.into_primitive(), inner_of(weight));
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (loss, gradient) = on_cpu(hidden, weight, targets, true);
                prepared.finish(gradient.expect("a gradient was asked for"), loss)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(on_cpu(hidden, weight, targets, false).0)
            }
        }
    }
}

#[derive(Debug)]
struct VocabularyBackward;

impl Backward<Flex, 1> for VocabularyBackward {
    /// The gradient of `hidden` where that of the loss is 1.
    type State = FloatTensor<Flex>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [hidden] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        if let Some(node) = hidden {
            let scale = values(&grad)[0];
            grads.register::<Flex>(node.id, Flex::float_mul_scalar(ops.state, scale.into()));
        }
    }
}

fn plain(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    let [vocab, _] = weight.dims();
    let plain_hidden = hidden.clone().without_autodiff();
    let plain_weight = weight.clone().without_autodiff();
    let transposed = plain_weight.clone().transpose();
    let targets = targets.without_autodiff();
    let (learns_hidden, learns_weight) = (is_trained(&hidden), is_trained(&weight));

    let mut loss = Tensor::<1>::zeros([1], &plain_hidden.device());
    let mut hidden_gradient = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    for rows in pieces_of_rows(rows, vocab) {
        let hidden = plain_hidden.clone().slice([rows.clone()]);
        let targets = targets.clone().slice([rows]);
        let logits = product(hidden.clone(), transposed.clone());
        let largest = logits.clone().max_dim(1);
        let target_logits = logits.clone().gather(1, targets.clone().unsqueeze_dim(1));
        let exponentials = (logits - largest.clone()).exp();
        let sums = exponentials.clone().sum_dim(1);
        loss = loss + (sums.clone().log() + largest - target_logits).sum();
        if learns_hidden {
            let expected = product(exponentials.clone(), plain_weight.clone()) / sums.clone();
            let wanted = plain_weight.clone().select(0, targets.clone());
            let wanted = wanted.cast(expected.dtype());
            hidden_gradient.push(expected - wanted);
        }
        if learns_weight {
            let gradient = (exponentials / sums).transpose().matmul(hidden.clone());
            let gradient = gradient.select_assign(0, targets, hidden.neg(), IndexingUpdateOp::Add);
            weight_gradient = Some(match weight_gradient {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
    }
    if !hidden_gradient.is_empty() {
        loss = with_gradient(loss, hidden, Tensor::cat(hidden_gradient, 0));
    }
    if let Some(gradient) = weight_gradient {
        loss = with_gradient(loss, weight, gradient);
    }
    loss
}

/// Returns `loss` with `gradient` as its gradient with respect to `input`: the added term is zero,
/// and its derivative is `gradient`.
fn with_gradient(loss: Tensor<1>, input: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    let zero = input.clone() - input.detach();
    loss.autodiff() + (zero * gradient.autodiff()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "wgpu")]
    use crate::testing::random;
    #[cfg(feature = "wgpu")]
    use burn::tensor::TensorData;
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Device, Distribution, Tolerance};

    /// Against Burn's own log-softmax, whose gradients are tested against PyTorch's.
    #[test]
    fn equals_log_softmax_with_its_gradients() {
        let device = Device::flex();
        device.seed(7);
        let normal = Distribution::Normal(0.0, 1.0);
        let hidden = Tensor::<2>::random([5, 4], normal, &device);
        let weight = Tensor::<2>::random([9, 4], normal, &device);
        let targets = Tensor::<1, Int>::from_data([0, 8, 3, 3, 5], &device);
        let on_tape = || {
            let hidden = hidden.clone().autodiff().require_grad();
            (hidden, weight.clone().autodiff().require_grad())
        };

        let (h, w) = on_tape();
        let loss = vocabulary_loss(h.clone(), w.clone(), targets.clone());
        let gradients = loss.backward();
        let (h2, w2) = on_tape();
        let log_probs = log_softmax(h2.clone().matmul(w2.clone().transpose()), 1);
        let picked = log_probs.gather(1, targets.clone().autodiff().unsqueeze_dim(1));
        let expected = picked.sum().neg();
        let expected_gradients = expected.backward();

        let close = |a: Tensor<2>, b: Tensor<2>| {
            a.to_data()
                .assert_approx_eq::<f32>(&b.to_data(), Tolerance::absolute(1e-5));
        };
        close(loss.inner().unsqueeze(), expected.inner().unsqueeze());
        close(
            h.grad(&gradients).unwrap(),
            h2.grad(&expected_gradients).unwrap(),
        );
        close(
            w.grad(&gradients).unwrap(),
            w2.grad(&expected_gradients).unwrap(),
        );
        let plain = vocabulary_loss(hidden, weight, targets);
        close(
            plain.unsqueeze(),
            loss_value(&h, &w, &[0, 8, 3, 3, 5]).unsqueeze(),
        );
    }

    fn loss_value(hidden: &Tensor<2>, weight: &Tensor<2>, targets: &[i64]) -> Tensor<1> {
        let logits = hidden
            .clone()
            .inner()
            .matmul(weight.clone().inner().transpose());
        let targets = Tensor::<1, Int>::from_data(targets, &logits.device());
        log_softmax(logits, 1)
            .gather(1, targets.unsqueeze_dim(1))
            .sum()
            .neg()
    }

    /// More words than one piece holds, a number that no vector's width divides, and all types.
    #[test]
    fn equals_the_plain_body_in_several_pieces() {
        let device = Device::flex();
        let normal = Distribution::Normal(0.0, 1.0);
        let hidden = Tensor::<2>::random([70, 33], normal, &device);
        let weight = Tensor::<2>::random([2501, 33], normal, &device);
        let targets: Vec<i64> = (0..70).map(|row| row * 35 % 2501).collect();
        let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &device);
        let narrow = weight.clone().cast(FloatDType::BF16);
        let half = weight.clone().cast(FloatDType::F16);
        for (weight, tolerance) in [(weight, 1e-4), (narrow, 0.1), (half, 1e-3)] {
            let h = hidden.clone().autodiff().require_grad();
            let loss = vocabulary_loss(h.clone(), weight.clone(), targets.clone());
            let found = h.grad(&loss.backward()).unwrap();
            let wide = weight.cast(FloatDType::F32);
            let expected = plain(h.clone(), wide, targets.clone());
            let wanted = h.grad(&expected.backward()).unwrap();
            let difference = (found - wanted).abs().max().into_scalar::<f32>();
            assert!(difference < tolerance, "{difference}");
            let difference = (loss.inner() - expected.inner()).abs().into_scalar::<f32>();
            assert!(difference < 70.0 * tolerance, "{difference}");
        }
    }

    /// Without a check, such a target would read the logit of another row.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_target_that_is_no_word_makes_nan_on_a_gpu() {
        crate::testing::on_gpu(|| {
            let device = crate::testing::device();
            let (hidden, weight) = (random([3, 8], 1.0), random([21, 8], 1.0));
            let rows_of = |target: i64| {
                let targets = Tensor::<1, Int>::from_data([20, target, 5], &device);
                let hidden = hidden.clone().autodiff().require_grad();
                let losses = crate::gpu::losses_of_rows(hidden.clone(), weight.clone(), targets);
                let gradient = hidden.grad(&losses.clone().sum().backward()).unwrap();
                let losses = losses.inner().into_data().try_to_vec::<f32>().unwrap();
                (losses, gradient.into_data().try_to_vec::<f32>().unwrap())
            };
            let (losses, gradient) = rows_of(0);
            let (found, of_hidden) = rows_of(i64::from(NO_TARGET));
            assert_eq!(found, [losses[0], 0.0, losses[2]]);
            assert_eq!(of_hidden[8..16], [0.0; 8]);
            for target in [21, i64::from(i32::MAX), -1, -100] {
                let (found, of_hidden) = rows_of(target);
                assert!(found[1].is_nan(), "{target}: {found:?}");
                assert_eq!([found[0], found[2]], [losses[0], losses[2]]);
                assert_eq!(of_hidden[8..16], [0.0; 8]);
                assert_eq!(of_hidden[..8], gradient[..8]);
                assert_eq!(of_hidden[16..], gradient[16..]);
            }
        });
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn equals_the_plain_body_on_a_gpu() {
        crate::testing::on_gpu(|| {
            let device = crate::testing::device();
            let (hidden, weight) = (random([70, 33], 1.0), random([2501, 33], 1.0));
            let targets: Vec<i64> = (0..70).map(|row| row * 35 % 2501).collect();
            let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &device);
            let run = |loss: &dyn Fn(Tensor<2>) -> Tensor<1>| {
                let h = hidden.clone().autodiff().require_grad();
                let loss = loss(h.clone());
                let gradient = h.grad(&(loss.clone() * 0.5).backward()).unwrap();
                [loss.inner().unsqueeze::<2>(), gradient].map(Tensor::into_data)
            };
            let found = run(&|h| vocabulary_loss(h, weight.clone(), targets.clone()));
            let wanted = run(&|h| plain(h, weight.clone(), targets.clone()));
            for (found, wanted) in found.iter().zip(&wanted) {
                found.assert_approx_eq::<f32>(wanted, Tolerance::absolute(1e-5).set_relative(1e-5));
            }
        });
    }

    /// The losses of rows whose hidden states have the type `hidden` and whose weight has `narrow`,
    /// against 64 bits. A logit is off by at most a share `unit` of the largest, so a loss by twice
    /// that, and each share of a gradient by that factor too; the gradient is rounded four times more.
    #[cfg(feature = "wgpu")]
    fn losses_in_16_bits(hidden: FloatDType, narrow: FloatDType) {
        let unit = match narrow {
            FloatDType::BF16 => 2.0f64.powi(-7),
            _ => 2.0f64.powi(-10),
        };
        // The second is one whose products CubeCL's kernels for vectors take.
        for [count, d, vocab] in [[70, 33, 2501], [40, 32, 1000]] {
            let hidden = random([count, d], 0.3).cast(hidden);
            let weight = random([vocab, d], 1.0).cast(narrow);
            let targets: Vec<i64> = (0..count).map(|row| (row * 35 % vocab) as i64).collect();
            let on = |device: &Device| Tensor::<1, Int>::from_data(targets.as_slice(), device);
            let wide = |tensor: &Tensor<2>| {
                let data = tensor.clone().inner().into_data();
                Tensor::<2>::from_data(data, &Device::flex()).cast(FloatDType::F64)
            };

            let h = hidden.clone().autodiff().require_grad();
            let of_device = on(&crate::testing::device());
            let losses = crate::gpu::losses_of_rows(h.clone(), weight.clone(), of_device);
            let gradient = h.grad(&losses.clone().sum().backward()).unwrap();
            assert_eq!(gradient.dtype(), hidden.dtype());

            let exact = wide(&hidden).autodiff().require_grad();
            let logits = exact.clone().matmul(wide(&weight).transpose().autodiff());
            let picked = on(&Device::flex()).unsqueeze_dim(1);
            let expected = log_softmax(logits.clone(), 1).gather(1, picked.autodiff());
            let expected = expected.neg();
            let wanted = exact.grad(&expected.clone().sum().backward()).unwrap();

            let largest = |tensor: Tensor<2>| tensor.abs().max().into_scalar::<f64>();
            let of_logits = 2.0 * unit * largest(logits.inner());
            let apart = largest(wide(&losses) - expected.inner());
            assert!(apart < of_logits, "losses: {apart}, {of_logits}");
            let bound = largest(wide(&weight)) * (1.1 * of_logits + 4.0 * unit);
            let apart = largest(wide(&gradient) - wanted);
            assert!(apart < bound, "gradients: {apart}, {bound}");
        }
    }

    /// A target so likely that the others together do not change a sum of 1 in 32 bits.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_certain_target_has_a_gradient_on_a_gpu_in_16_bits() {
        for narrow in [FloatDType::F16, FloatDType::BF16] {
            crate::testing::on_gpu(|| {
                let device = crate::testing::device();
                if !device.supports_dtype(narrow) {
                    return eprintln!("not run: the GPU has no {narrow:?}");
                }
                // Word 0 has the logit `gap`, and the others have 0.
                let vocab = 1000;
                for gap in [25.0f32, 60.0, 200.0] {
                    let mut weight = vec![0.0f32; 2 * vocab];
                    weight[0] = 1.0;
                    weight
                        .chunks_exact_mut(2)
                        .skip(1)
                        .for_each(|word| word[1] = 1.0);
                    let weight = TensorData::new(weight, [vocab, 2]);
                    let weight = Tensor::<2>::from_data(weight, &device).cast(narrow);
                    let hidden = Tensor::<2>::from_data([[gap, 0.0]], &device);
                    let hidden = hidden.autodiff().require_grad();
                    let target = Tensor::<1, Int>::from_data([0], &device);
                    let losses = crate::gpu::losses_of_rows(hidden.clone(), weight, target);
                    let gradient = hidden.grad(&losses.sum().backward()).unwrap();
                    let found = gradient.into_data().try_into_vec::<f32>().unwrap();
                    // The others' probabilities together.
                    let others = 999.0 * (-gap).exp();
                    for (found, wanted) in found.into_iter().zip([-others, others]) {
                        let apart = (found - wanted).abs();
                        assert!(
                            apart <= 0.01 * others + 1e-28,
                            "{found}, not {wanted}, at {gap}"
                        );
                    }
                }
            });
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn equals_64_bits_on_a_gpu_in_16_bits() {
        for narrow in [FloatDType::F16, FloatDType::BF16] {
            crate::testing::on_gpu(|| {
                if crate::testing::device().supports_dtype(narrow) {
                    losses_in_16_bits(narrow, narrow);
                    losses_in_16_bits(FloatDType::F32, narrow);
                } else {
                    eprintln!("not run: the GPU has no {narrow:?}");
                }
            });
        }
    }
}
