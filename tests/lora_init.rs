//! Initialisations that are made from the weight: the base plus the adapter is the untouched base.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Tensor, TensorData};
use burn_peft::config::{InitLoraWeights, LoftQConfig, LoraConfig};
use burn_peft::{PeftModel, Slot, get_peft_model, tensor_file};

use crate::conformance::{base, fixtures, logits};
use crate::linear_methods::{Net, inputs, net};

const MADE_FROM_THE_WEIGHT: [InitLoraWeights; 4] = [
    InitLoraWeights::Pissa { niter: None },
    InitLoraWeights::Pissa { niter: Some(3) },
    InitLoraWeights::Olora,
    InitLoraWeights::Orthogonal,
];

fn config(init: InitLoraWeights) -> LoraConfig {
    let config = LoraConfig::new().with_r(4).with_lora_alpha(8.0);
    config.with_init_lora_weights(init)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// On GPT-2, whose layers are `Conv1D`, square ones and others.
#[test]
fn the_base_with_the_adapter_is_the_untouched_base() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let untouched = logits(&base(), &case);
    for init in MADE_FROM_THE_WEIGHT {
        for use_dora in [false, true] {
            let config = config(init)
                .with_use_dora(use_dora)
                .with_target_modules(["c_attn", "c_proj", "c_fc"]);
            let model = get_peft_model(base(), config).unwrap();
            let found = logits(&model, &case);
            let difference = largest_difference(&found, &untouched);
            let size = largest_difference(&untouched, &vec![0.0; untouched.len()]);
            assert!(
                difference < 1e-5 * size,
                "{init:?} {use_dora}: {difference} of {size}"
            );
            // A and B are something: without them the base is another one.
            if init != InitLoraWeights::Orthogonal {
                let left = model.disable_adapter(|model| logits(model, &case));
                assert!(largest_difference(&left, &untouched) > 1e-2, "{init:?}");
                let given_back = logits(&model.unload(), &case);
                assert_eq!(given_back, untouched, "{init:?}");
            }
        }
    }
}

/// Against `torch.linalg.svd` and `qr` by way of PEFT, on `Linear`.
#[test]
fn pissa_and_olora_take_what_peft_takes() {
    let path = fixtures().join("linear/inits.safetensors");
    let expected = tensor_file::read_tensors(&path).unwrap();
    for (name, init) in [
        ("pissa", InitLoraWeights::Pissa { niter: None }),
        ("olora", InitLoraWeights::Olora),
    ] {
        let config = LoraConfig::new()
            .with_r(3)
            .with_lora_alpha(6.0)
            .with_init_lora_weights(init)
            .with_target_modules(["fc1", "fc2"]);
        let model = get_peft_model(net(), config).unwrap();
        for (path, layer) in [("fc1", &model.fc1), ("fc2", &model.fc2)] {
            let left = layer.weight().transpose().into_data();
            let matrix = |part: &str| {
                let data = model.adapter_tensor(path, "default", part).unwrap();
                Tensor::<2>::from_data(data, &burn::tensor::Device::flex())
            };
            let change = (matrix("lora_B").matmul(matrix("lora_A")) * 2.0).into_data();
            for (what, found) in [("base", left), ("change", change)] {
                let expected = &expected[&format!("{name}.{path}.{what}")];
                let values = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
                let difference = largest_difference(&values(&found), &values(expected));
                assert!(difference < 1e-5, "{name} {path} {what}: {difference}");
            }
        }
    }
}

fn trained(config: LoraConfig) -> (PeftModel<Net>, tempfile::TempDir) {
    let (x, target) = inputs();
    let (x, target) = (x.autodiff(), target.autodiff());
    let model = get_peft_model(net(), config).unwrap();
    let initial = tempfile::tempdir().unwrap();
    model.save_pretrained(initial.path()).unwrap();
    let mut model = model.train();
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..5 {
        let output = model.fc2.forward(model.fc1.forward(x.clone()));
        let loss = (output - target.clone()).square().mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-2, model, gradients);
    }
    (model.valid(), initial)
}

fn output(model: &Net) -> Vec<f32> {
    let output = model.fc2.forward(model.fc1.forward(inputs().0));
    output.into_data().iter::<f32>().collect()
}

#[test]
fn a_trained_adapter_is_converted_to_one_for_the_untouched_base() {
    for init in [
        InitLoraWeights::Pissa { niter: None },
        InitLoraWeights::Olora,
    ] {
        for use_rslora in [false, true] {
            let config = config(init)
                .with_use_rslora(use_rslora)
                .with_target_modules(["fc1", "fc2"]);
            let (model, initial) = trained(config);
            let expected = output(&model);

            // As it is, it needs the same start again.
            let folder = tempfile::tempdir().unwrap();
            model.save_pretrained(folder.path()).unwrap();
            let again = PeftModel::from_pretrained(net(), folder.path(), false).unwrap();
            assert!(largest_difference(&output(&again), &expected) < 1e-5);

            let plain = tempfile::tempdir().unwrap();
            model
                .save_pretrained_converted(plain.path(), initial.path())
                .unwrap();
            let converted = PeftModel::from_pretrained(net(), plain.path(), false).unwrap();
            let json = converted.config("default").unwrap().to_json();
            assert_eq!(json["init_lora_weights"], true);
            assert_eq!(json["r"], 8);
            assert!(largest_difference(&output(&converted), &expected) < 1e-5);
            // The base is untouched this time.
            assert_eq!(
                converted.fc1.weight().into_data(),
                net().fc1.weight().into_data()
            );
        }
    }
    let (model, initial) = trained(config(InitLoraWeights::True).with_target_modules(["fc1"]));
    let error = model.save_pretrained_converted(initial.path(), initial.path());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("init_lora_weights = true"), "{error}");
}

/// LoftQ quantises the base, and the adapter makes up for a part of it.
#[test]
fn loftq_brings_a_quantised_weight_nearer() {
    for (bits, left_over) in [(4, 16.0), (8, 256.0)] {
        let mut config = LoraConfig::new().with_r(4).with_lora_alpha(4.0);
        config.init_lora_weights = InitLoraWeights::Loftq;
        config.loftq_config = Some(LoftQConfig {
            loftq_bits: bits,
            loftq_iter: 2,
        });
        let weight = net().fc1.weight();
        let model = get_peft_model(net(), config.with_target_modules(["fc1"])).unwrap();
        let quantised = model.fc1.weight();
        let distance = |other: Tensor<2>| {
            let distance = (other - weight.clone()).square().sum().sqrt();
            distance.into_scalar::<f32>()
        };
        let without = distance(quantised.clone());
        let with = distance(model.merge_and_unload(true).unwrap().fc1.weight());
        assert!(
            without > 0.0 && with < 0.8 * without,
            "{bits}: {with} {without}"
        );
        // As coarse as its bits: few values in a block, and not far off.
        let largest = weight.clone().abs().max().into_scalar::<f32>();
        let off = (quantised - weight.clone())
            .abs()
            .max()
            .into_scalar::<f32>();
        assert!(off < 6.0 * largest / left_over, "{bits}: {off} {largest}");
    }
}

#[test]
fn ranks_that_do_not_fit_are_errors() {
    for (init, r, message) in [
        (InitLoraWeights::Pissa { niter: None }, 13, "at most 12"),
        (InitLoraWeights::Olora, 13, "r = 13"),
        (InitLoraWeights::Orthogonal, 3, "even rank"),
        (InitLoraWeights::Loftq, 2, "loftq_config"),
    ] {
        let config = LoraConfig::new().with_r(r).with_init_lora_weights(init);
        let error = get_peft_model(net(), config.with_target_modules(["fc1"]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
