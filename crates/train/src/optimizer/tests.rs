use super::*;
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

#[derive(Module, Debug)]
struct Weights {
    weight: Param<Tensor<1>>,
}

/// Three steps on `loss = Σ weight³` (gradient `3 weight²`).
fn three_steps(arguments: &TrainingArguments, start: [f64; 3]) -> Vec<f64> {
    let mut optimizer = optimizer(arguments, &[]).unwrap();
    let device = Device::flex().autodiff();
    let mut model = Weights {
        weight: Param::from_data(start, &device),
    };
    for _ in 0..3 {
        let loss = model.weight.val().powi_scalar(3).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(arguments.learning_rate, model, gradients);
    }
    model.weight.val().into_data().iter::<f64>().collect()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }
}

const START: [f64; 3] = [0.5, -2.0, 1e-3];

/// Against the algorithm of PyTorch's documentation (torch.optim.AdamW) in double precision.
#[test]
fn three_steps_of_adamw_are_pytorchs() {
    let (lr, beta1, beta2, eps, decay) = (1e-2, 0.9, 0.999, 1e-8, 0.01);
    let mut expected = START;
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
        learning_rate: lr,
        weight_decay: decay,
        ..Default::default()
    };
    assert_close(&three_steps(&arguments, START), &expected);
}

/// Against Algorithm 2 of the paper (arXiv 2302.06675), which bitsandbytes' Lion follows.
#[test]
fn three_steps_of_lion_are_the_papers() {
    let (lr, beta1, beta2, decay) = (1e-2, 0.9, 0.99, 0.1);
    let mut expected = START;
    let mut m = [0.0; 3];
    for _ in 0..3 {
        for i in 0..3 {
            let gradient = 3.0 * expected[i] * expected[i];
            let update = f64::signum(beta1 * m[i] + (1.0 - beta1) * gradient);
            m[i] = beta2 * m[i] + (1.0 - beta2) * gradient;
            expected[i] -= lr * (update + decay * expected[i]);
        }
    }
    let arguments = TrainingArguments {
        optim: OptimizerName::Lion,
        learning_rate: lr,
        adam_beta2: beta2,
        weight_decay: decay,
        ..Default::default()
    };
    assert_close(&three_steps(&arguments, START), &expected);
}

#[derive(Module, Debug)]
struct Layers {
    matrix: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    wte: Param<Tensor<2>>,
}

fn layers() -> (Layers, [NamedParameter; 3]) {
    let device = Device::flex().autodiff();
    let layers = Layers {
        matrix: Param::from_data([[2.0, 0.0], [0.0, 0.1]], &device),
        bias: Param::from_data([1.0, 1.0], &device),
        wte: Param::from_data([[2.0, 0.1]], &device),
    };
    let named = |name: &str, shape: &[usize], id| NamedParameter {
        name: name.into(),
        shape: shape.to_vec(),
        requires_grad: true,
        id,
        is_embedding: name == "wte.weight",
    };
    let parameters = [
        named("h.0.lora_B.default.weight", &[2, 2], layers.matrix.id),
        named("h.0.bias", &[2], layers.bias.id),
        named("wte.weight", &[1, 2], layers.wte.id),
    ];
    (layers, parameters)
}

/// One step on the sum of the squares.
fn one_step(arguments: &TrainingArguments) -> [Vec<f32>; 3] {
    let (model, parameters) = layers();
    let mut optimizer = optimizer(arguments, &parameters).unwrap();
    let schedule = arguments.schedule(10);
    let rates = scheduler(arguments, &parameters, schedule, 0)
        .unwrap()
        .step();
    let (matrix, bias, wte) = (model.matrix.val(), model.bias.val(), model.wte.val());
    let loss = matrix.square().sum() + bias.square().sum() + wte.square().sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let model = optimizer.step(rates, model, gradients);
    let values = |data: burn::tensor::TensorData| data.iter::<f32>().collect();
    [
        values(model.matrix.val().into_data()),
        values(model.bias.val().into_data()),
        values(model.wte.val().into_data()),
    ]
}

fn near(found: &[f32], expected: &[f32]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
    }
}

#[test]
fn biases_do_not_decay_and_loraplus_has_its_own_rates() {
    let arguments = TrainingArguments {
        optim: OptimizerName::Sgd,
        learning_rate: 0.01,
        weight_decay: 0.5,
        loraplus_lr_ratio: Some(4.0),
        ..Default::default()
    };
    let [matrix, bias, wte] = one_step(&arguments);
    // p - lr (2 p + 0.5 p), the bias without the decay; `wte` is in group A.
    near(
        &matrix,
        &[2.0 * (1.0 - 0.04 * 2.5), 0.0, 0.0, 0.1 * (1.0 - 0.04 * 2.5)],
    );
    near(&bias, &[1.0 - 0.04 * 2.0; 2]);
    near(&wte, &[2.0 * (1.0 - 0.01 * 2.5), 0.1 * (1.0 - 0.01 * 2.5)]);
}

#[test]
fn muon_takes_matrices_and_leaves_the_rest_to_adamw() {
    let arguments = TrainingArguments {
        optim: OptimizerName::Muon,
        learning_rate: 0.01,
        ..Default::default()
    };
    let [matrix, bias, wte] = one_step(&arguments);
    // Of a diagonal matrix, the orthogonal factor is about the signs: both move by about
    // lr · 0.2 · √2, whatever their sizes.
    let moved = [2.0 - matrix[0], 0.1 - matrix[3]];
    for step in moved {
        assert!(
            (step / (0.01 * 0.2 * 2f32.sqrt()) - 1.0).abs() < 0.35,
            "{step}"
        );
    }
    // AdamW's first step is the learning rate.
    near(&bias, &[0.99, 0.99]);
    near(&wte, &[1.99, 0.09]);

    let (_, parameters) = layers();
    let error = optimizer(&arguments, &parameters[1..]).err().unwrap();
    assert!(
        error.to_string().starts_with("training.optim is \"muon\""),
        "{error}"
    );
}

#[test]
fn keys_without_effect_are_errors() {
    let error = |change: &dyn Fn(&mut TrainingArguments)| {
        let mut arguments = TrainingArguments::new("out");
        change(&mut arguments);
        arguments.validate().unwrap_err().to_string()
    };
    assert_eq!(
        error(&|a| (a.optim, a.adam_beta1) = (OptimizerName::Adafactor, 0.8)),
        "training.adam_beta1 is 0.8, but optim = \"adafactor\" does not use it; remove it"
    );
    assert_eq!(
        error(&|a| a.loraplus_lr_ratio = Some(0.0)),
        "training.loraplus_lr_ratio is 0; it must be more than 0"
    );
    assert!(error(&|a| a.loraplus_lr_embedding = Some(1e-5)).contains("set that too"));
    let arguments = TrainingArguments {
        loraplus_lr_ratio: Some(16.0),
        ..TrainingArguments::new("out")
    };
    let (_, parameters) = layers();
    let error = scheduler(&arguments, &parameters[1..], arguments.schedule(9), 0);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("no lora_B is trained"), "{error}");
}
