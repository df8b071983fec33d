//! The cross-entropy of a vocabulary, without tokens × vocabulary in memory.

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// The number of logits alive at once: 32 MiB of 32-bit floats.
const CHUNK: usize = 8 << 20;

/// The sum of `-log softmax(hidden · weightᵀ)[target]` over the rows, `[1]`; `hidden` is
/// `[rows, d]`, `weight` `[vocab, d]`, `targets` `[rows]`.
///
/// The logits are made in pieces of rows, and so are the gradients of `hidden` and, if it is
/// trained, `weight`, right after them: both are known in closed form
/// (`softmax(logits) - onehot(target)`), so the logits are made once and kept never.
pub fn cross_entropy_sum(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    let [vocab, _] = weight.dims();
    let plain_hidden = hidden.clone().without_autodiff();
    let plain_weight = weight.clone().without_autodiff();
    let transposed = plain_weight.clone().transpose();
    let targets = targets.without_autodiff();
    let (learns_hidden, learns_weight) = (is_on_tape(&hidden), is_on_tape(&weight));

    let mut loss = Tensor::<1>::zeros([1], &plain_hidden.device());
    let mut hidden_gradient = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    let step = (CHUNK / vocab).clamp(1, rows.max(1));
    for start in (0..rows).step_by(step) {
        let rows = start..rows.min(start + step);
        let hidden = plain_hidden.clone().slice([rows.clone()]);
        let targets = targets.clone().slice([rows]);
        let logits = hidden.clone().matmul(transposed.clone());
        let largest = logits.clone().max_dim(1);
        let target_logits = logits.clone().gather(1, targets.clone().unsqueeze_dim(1));
        let exponentials = (logits - largest.clone()).exp();
        let sums = exponentials.clone().sum_dim(1);
        loss = loss + (sums.clone().log() + largest - target_logits).sum();
        if learns_hidden {
            let expected = exponentials.clone().matmul(plain_weight.clone()) / sums.clone();
            let wanted = plain_weight.clone().select(0, targets.clone());
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

/// The same for a head that is more than a product with a weight: `logits` maps `[rows, d]` to
/// `[rows, vocab]`. In training every piece's logits are kept for its gradient.
pub(crate) fn cross_entropy_sum_of(
    logits: impl Fn(Tensor<2>) -> Tensor<2>,
    vocab: usize,
    hidden: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    let mut loss = Tensor::<1>::zeros([1], &hidden.device());
    let step = (CHUNK / vocab).clamp(1, rows.max(1));
    for start in (0..rows).step_by(step) {
        let rows = start..rows.min(start + step);
        let logits = logits(hidden.clone().slice([rows.clone()]));
        let targets = targets.clone().slice([rows]).unsqueeze_dim(1);
        loss = loss - log_softmax(logits, 1).gather(1, targets).sum();
    }
    loss
}

/// Whether a gradient may be asked for.
fn is_on_tape(tensor: &Tensor<2>) -> bool {
    tensor.is_autodiff() && tensor.is_tracked()
}

/// `loss`, with `gradient` as its gradient with respect to `input`: what is added is zero, and
/// its derivative is `gradient`.
fn with_gradient(loss: Tensor<1>, input: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    let zero = input.clone() - input.detach();
    loss.autodiff() + (zero * gradient.autodiff()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let loss = cross_entropy_sum(h.clone(), w.clone(), targets.clone());
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
        let plain = cross_entropy_sum(hidden, weight, targets);
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
}
