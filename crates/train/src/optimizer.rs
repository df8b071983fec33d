//! AdamW as PyTorch has it.

use burn::optim::{AdamWConfig, ModuleOptimizer};

use crate::arguments::TrainingArguments;

/// AdamW with the values of the `[training]` table.
///
/// Burn's is PyTorch's: weight decay apart from the gradient, `p ← p·(1 − lr·wd)`, and epsilon
/// added to the root of the corrected second moment. Its defaults are not, so all are given.
pub fn adamw(arguments: &TrainingArguments) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_beta_1(arguments.adam_beta1 as f32)
        .with_beta_2(arguments.adam_beta2 as f32)
        .with_epsilon(arguments.adam_epsilon as f32)
        .with_weight_decay(arguments.weight_decay as f32)
        .init()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Weights {
        weight: Param<Tensor<1>>,
    }

    /// Three steps of AdamW on `loss = Σ weight³` (gradient `3 weight²`), against the algorithm of
    /// PyTorch's documentation (torch.optim.AdamW) in double precision.
    #[test]
    fn three_steps_are_pytorchs() {
        let (lr, beta1, beta2, eps, decay) = (1e-2, 0.9, 0.999, 1e-8, 0.01);
        let start = [0.5, -2.0, 1e-3];
        let mut expected = start;
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        for t in 1..=3 {
            for i in 0..3 {
                let gradient = 3.0 * expected[i] * expected[i];
                m[i] = beta1 * m[i] + (1.0 - beta1) * gradient;
                v[i] = beta2 * v[i] + (1.0 - beta2) * gradient * gradient;
                let m_hat = m[i] / (1.0 - f64::powi(beta1, t));
                let v_hat: f64 = v[i] / (1.0 - f64::powi(beta2, t));
                expected[i] *= 1.0 - lr * decay;
                expected[i] -= lr * m_hat / (v_hat.sqrt() + eps);
            }
        }

        let arguments = TrainingArguments {
            weight_decay: decay,
            ..Default::default()
        };
        let mut optimizer = adamw(&arguments);
        let device = Device::flex().autodiff();
        let mut model = Weights {
            weight: Param::from_data(start, &device),
        };
        for _ in 0..3 {
            let loss = model.weight.val().powi_scalar(3).sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(lr, model, gradients);
        }
        let found = model.weight.val().into_data();
        for (found, expected) in found.iter::<f64>().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }
}
