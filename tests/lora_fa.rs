//! LoRA-FA, compared with Python's peft (`fixtures/lora_fa/make.py`).

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn_peft::methods::IA3Config;
use burn_peft::{LoraConfig, LoraFa, PeftModel, get_peft_model, tensor_file};

use crate::common::{Lab, largest_difference};
use crate::conformance::fixtures;
use crate::linear_methods::{inputs, net};

#[test]
fn six_steps_are_pefts() {
    let folder = fixtures().join("lora_fa");
    let expected = tensor_file::read_tensors(&folder.join("expected.safetensors")).unwrap();
    let mut model = PeftModel::from_pretrained(net(), folder.join("start"), true).unwrap();
    let lora_fa = LoraFa::new(&mut model).unwrap();
    let mut model = model.train();
    let trained = model.named_parameters();
    let trained: Vec<_> = trained.iter().filter(|p| p.requires_grad).collect();
    assert!(
        trained.iter().all(|p| p.name.contains("lora_B")),
        "{trained:?}"
    );
    assert_eq!(trained.len(), 2);

    let (x, target) = inputs();
    let (x, target) = (x.autodiff(), target.autodiff());
    let config = AdamWConfig::new().with_beta_2(0.999).with_epsilon(1e-10);
    let mut optimizer = config.with_weight_decay(0.0).init();
    let mut losses: Vec<f32> = Vec::new();
    for _ in 0..6 {
        let loss = (model.forward(x.clone()) - target.clone()).square().mean();
        losses.push(loss.clone().inner().into_scalar());
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        lora_fa.correct(&mut gradients);
        model = optimizer.step(1e-2, model, gradients);
    }
    let values = |data: &burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<_>>();
    let difference = largest_difference(&losses, &values(&expected["losses"]));
    assert!(difference < 1e-4, "{losses:?}: {difference}");
    for (key, found) in model.adapter_state_dict("default") {
        let difference = largest_difference(&values(&found), &values(&expected[&key]));
        assert!(difference < 1e-4, "{key}: {difference}");
    }
}

#[test]
fn what_has_no_plain_factors_is_an_error() {
    let lora = LoraConfig::new().with_target_modules(["fc1"]);
    for config in [
        lora.clone().with_use_dora(true),
        lora.clone().with_lora_bias(true),
    ] {
        let mut model = get_peft_model(net(), config).unwrap();
        let error = LoraFa::new(&mut model).unwrap_err().to_string();
        assert!(
            error.contains("fc1") && error.contains("use_dora"),
            "{error}"
        );
    }
    let mut model = get_peft_model(net(), lora.with_lora_alpha(0.0)).unwrap();
    let error = LoraFa::new(&mut model).unwrap_err().to_string();
    assert!(error.contains("lora_alpha"), "{error}");
    let mut config = IA3Config::default();
    config.common.target_modules = Some(burn_peft::config::TargetModules::list(["fc1"]));
    config.feedforward_modules = Some(burn_peft::config::TargetModules::List(vec![]));
    let mut model = get_peft_model(net(), config).unwrap();
    let error = LoraFa::new(&mut model).unwrap_err().to_string();
    assert!(error.contains("no active adapter has lora_A"), "{error}");

    let lab = Lab::new();
    let optim = [
        "train",
        "train.toml",
        "--set",
        "training.optim=lorafa",
        "--set",
    ];
    let with = |setting| [&optim[..], &[setting]].concat();
    lab.fails(&with("peft.use_dora=true"), &["LoRA-FA at transformer.h.0"]);
}
