//! The training loop of both networks.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Int, Tensor};

/// Trains the trainable part of the model on batches of inputs and their classes.
pub fn train<M: Module, X>(
    model: M,
    steps: usize,
    rate: f64,
    mut draw: impl FnMut() -> (X, Tensor<1, Int>),
    forward: impl Fn(&M, X) -> Tensor<2>,
) -> M {
    let mut model = model.train();
    let mut optimizer = AdamWConfig::new().init();
    for step in 1..=steps {
        let (input, classes) = draw();
        let output = forward(&model, input);
        let loss = CrossEntropyLossConfig::new().init(&output.device());
        let loss = loss.forward(output, classes.autodiff());
        if step % 50 == 0 {
            println!(
                "  step {step}: loss {:.3}",
                loss.clone().into_scalar::<f32>()
            );
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(rate, model, gradients);
    }
    model.valid()
}
