use burn::tensor::{Device, Distribution, FloatDType, Int, Tensor};

use super::{TokenLogProbs, token_log_probs};
use crate::with_plain_bodies;

/// The results for random values, and the gradient of the hidden states, weighted differently from
/// row to row.
fn run(
    statistics: bool,
    [hidden, weight]: [&Tensor<2>; 2],
    bias: Option<Tensor<1>>,
    softcap: Option<f64>,
) -> (TokenLogProbs, Tensor<2>) {
    let [rows, vocab] = [hidden.dims()[0], weight.dims()[0]];
    let targets: Vec<i64> = (0..rows).map(|row| (row * 35 % vocab) as i64).collect();
    let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &hidden.device());
    let h = hidden.clone().autodiff().require_grad();
    let found = token_log_probs(
        h.clone(),
        weight.clone(),
        bias,
        softcap,
        targets,
        statistics,
    );
    let weights = Tensor::<1, Int>::arange(0..rows as i64, &hidden.device()).float();
    let weights = (weights * 0.7 - 3.0).autodiff();
    let gradients = (found.log_probs.clone() * weights).sum().backward();
    (found, h.grad(&gradients).unwrap())
}

fn assert_close<const D: usize>(found: Tensor<D>, expected: Tensor<D>, tolerance: f32) {
    let [found, expected] = [found, expected].map(Tensor::without_autodiff);
    let difference = (found - expected).abs().max().into_scalar::<f32>();
    assert!(difference < tolerance, "{difference}");
}

/// More words than one piece holds, a number that no vector divides, with and without bias and
/// cap, in both types: the plain body is Burn's own log-softmax, whose gradients are tested
/// against PyTorch's.
#[test]
fn equals_the_plain_body() {
    let device = Device::flex();
    let normal = Distribution::Normal(0.0, 1.0);
    let hidden = Tensor::<2>::random([70, 33], normal, &device);
    let weight = Tensor::<2>::random([2501, 33], normal, &device);
    let bias = Tensor::<1>::random([2501], normal, &device);
    let narrow = weight.clone().cast(FloatDType::BF16);
    for (bias, softcap) in [
        (None, None),
        (Some(bias.clone()), None),
        (Some(bias), Some(5.0)),
    ] {
        for (weight, tolerance) in [(&weight, 1e-4), (&narrow, 0.1)] {
            let (found, gradient) = run(true, [&hidden, weight], bias.clone(), softcap);
            let wide = weight.clone().cast(FloatDType::F32);
            let of_plain = || run(true, [&hidden, &wide], bias.clone(), softcap);
            let (expected, wanted) = with_plain_bodies(of_plain);
            assert_close(gradient.clone(), wanted, 50.0 * tolerance);
            assert_close(found.log_probs.clone(), expected.log_probs, tolerance);
            let [of, wanted] = [found.statistics, expected.statistics].map(Option::unwrap);
            assert_close(of.log_sum_sq_probs, wanted.log_sum_sq_probs, tolerance);
            assert_close(of.entropy, wanted.entropy, tolerance);
            assert_close(of.mean_logits, wanted.mean_logits, tolerance);
            if tolerance < 0.01 {
                assert_close(of.is_top1, wanted.is_top1, 0.5);
            }
            let (alone, same) = run(false, [&hidden, weight], bias.clone(), softcap);
            assert!(alone.statistics.is_none());
            assert_close(alone.log_probs, found.log_probs, 1e-9);
            assert_close(same, gradient, 1e-9);
        }
    }
}

/// The gradients of a head that is trained are those of the plain body, to hidden states that are
/// not trained and to those that are.
#[test]
fn a_trained_head_has_the_gradients_of_the_plain_body() {
    let normal = Distribution::Normal(0.0, 1.0);
    let device = Device::flex();
    let hidden = Tensor::<2>::random([40, 33], normal, &device);
    let weight = Tensor::<2>::random([2501, 33], normal, &device);
    let bias = Tensor::<1>::random([2501], normal, &device);
    let targets: Vec<i64> = (0..40).map(|row| row * 61 % 2501).collect();
    let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &device);
    let factors = Tensor::<1, Int>::arange(0..40, &device).float() * 0.3 - 2.0;
    for (softcap, trains_hidden) in [(None, true), (Some(4.0), false)] {
        let run = || {
            let h = hidden.clone().autodiff().set_require_grad(trains_hidden);
            let w = weight.clone().autodiff().require_grad();
            let b = bias.clone().autodiff().require_grad();
            let targets = targets.clone();
            let of_head = Some(b.clone());
            let found = token_log_probs(h.clone(), w.clone(), of_head, softcap, targets, false);
            let loss = (found.log_probs * factors.clone().autodiff()).sum();
            let gradients = loss.backward();
            let of_bias = b.grad(&gradients).unwrap().unsqueeze();
            (h.grad(&gradients), w.grad(&gradients).unwrap(), of_bias)
        };
        let (of_hidden, of_weight, of_bias): (_, _, Tensor<2>) = run();
        let (hidden, weight, bias) = with_plain_bodies(run);
        assert_eq!(of_hidden.is_some(), trains_hidden);
        if let (Some(found), Some(expected)) = (of_hidden, hidden) {
            assert_close(found, expected, 1e-3);
        }
        assert_close(of_weight, weight, 1e-3);
        assert_close(of_bias, bias, 1e-3);
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn equals_the_plain_body_on_a_gpu() {
    crate::testing::on_gpu(|| {
        let (hidden, weight) = (
            crate::testing::random([70, 33], 1.0),
            crate::testing::random([2501, 33], 1.0),
        );
        let of = || run(false, [&hidden, &weight], None, None);
        let (found, gradient) = of();
        let (expected, wanted) = with_plain_bodies(of);
        assert_close(found.log_probs, expected.log_probs, 1e-4);
        assert_close(gradient, wanted, 1e-3);
    });
}
