//! Initial values that are computed from the weight: base and adapter together equal the untouched
//! base.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Tensor, TensorData};
use burn_peft::config::{InitLoraWeights, LoftQConfig, LoraConfig};
use burn_peft::files::write_adapter;
use burn_peft::{PeftModel, Slot, get_peft_model, tensor_file};

use crate::common::{Lab, device, largest_difference};
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

/// On GPT-2, whose layers are `Conv1D`, both square and not square.
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
            // A and B are not zero, so the base without them is another one.
            if init != InitLoraWeights::Orthogonal {
                let left = model.disable_adapter(|model| logits(model, &case));
                assert!(largest_difference(&left, &untouched) > 1e-2, "{init:?}");
                let given_back = logits(&model.unload(), &case);
                assert_eq!(given_back, untouched, "{init:?}");
            }
        }
    }
}

/// Compares the rest of the weights, and the adapter's change of them, with those under `prefix` in
/// a file.
fn assert_starts_as(config: LoraConfig, file: &str, prefix: &str) {
    let expected = tensor_file::read_tensors(&fixtures().join(file)).unwrap();
    let scaling = config.lora_alpha / config.r as f64;
    let model = get_peft_model(net(), config.with_target_modules(["fc1", "fc2"])).unwrap();
    for (path, layer) in [("fc1", &model.fc1), ("fc2", &model.fc2)] {
        let left = layer.weight().transpose().into_data();
        let matrix = |part: &str| {
            let data = model.adapter_tensor(path, "default", part).unwrap();
            Tensor::<2>::from_data(data, &device())
        };
        let change = (matrix("lora_B").matmul(matrix("lora_A")) * scaling).into_data();
        for (what, found) in [("base", left), ("change", change)] {
            let expected = &expected[&format!("{prefix}.{path}.{what}")];
            let values = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
            let difference = largest_difference(&values(&found), &values(expected));
            assert!(difference < 1e-5, "{prefix} {path} {what}: {difference}");
        }
    }
}

/// Compared with PEFT's results from `torch.linalg.svd` and `qr`, on `Linear`.
#[test]
fn pissa_and_olora_take_what_peft_takes() {
    for (name, init) in [
        ("pissa", InitLoraWeights::Pissa { niter: None }),
        ("olora", InitLoraWeights::Olora),
    ] {
        let config = LoraConfig::new().with_r(3).with_lora_alpha(6.0);
        let config = config.with_init_lora_weights(init);
        assert_starts_as(config, "linear/inits.safetensors", name);
    }
}

/// Compared with bitsandbytes and peft (`fixtures/loftq/make.py`).
#[test]
fn loftq_quantises_and_makes_up_for_it_as_peft_does() {
    for loftq_bits in [4, 8] {
        for loftq_iter in [1, 4] {
            let mut config = LoraConfig::new().with_r(3).with_lora_alpha(3.0);
            config.init_lora_weights = InitLoraWeights::Loftq;
            config.loftq_config = Some(LoftQConfig {
                loftq_bits,
                loftq_iter,
            });
            let prefix = format!("{loftq_bits}.{loftq_iter}");
            assert_starts_as(config, "loftq/expected.safetensors", &prefix);
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

            // Saved as it is, the adapter needs the same initialisation again when it is loaded.
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

/// Converts by the weights alone. With twice the rank the result is exact, and the reported error
/// says so.
#[test]
fn the_conversion_to_lora_knows_what_was_taken() {
    for (init, exact) in [
        (InitLoraWeights::Pissa { niter: None }, true),
        (InitLoraWeights::Olora, true),
        (InitLoraWeights::Loftq, false),
    ] {
        let mut config = config(init).with_target_modules(["fc1", "fc2"]);
        config.loftq_config = (!exact).then(LoftQConfig::default);
        let (model, _) = trained(config);
        let expected = output(&model);
        let conversion = model.convert_to_lora("default", 8).unwrap();
        assert_eq!(conversion.error < 1e-3, exact, "{}", conversion.error);
        let folder = tempfile::tempdir().unwrap();
        write_adapter(folder.path(), &conversion.config, conversion.tensors).unwrap();
        let converted = PeftModel::from_pretrained(net(), folder.path(), false).unwrap();
        let difference = largest_difference(&output(&converted), &expected);
        assert_eq!(difference < 1e-4, exact, "{init:?}: {difference}");
    }
}

/// Two adapters of one configuration leave the same rest of the weight.
#[test]
fn an_adapter_that_took_a_part_is_swapped_for_its_like() {
    let pissa = || config(InitLoraWeights::Pissa { niter: None }).with_target_modules(["fc1"]);
    let (trained_one, _) = trained(pissa());
    let folder = tempfile::tempdir().unwrap();
    trained_one.save_pretrained(folder.path()).unwrap();
    let mut model = get_peft_model(net(), pissa()).unwrap();
    model.hotswap_adapter(folder.path(), "default").unwrap();
    assert!(largest_difference(&output(&model), &output(&trained_one)) < 1e-6);
    for other in [
        config(InitLoraWeights::True).with_target_modules(["fc1"]),
        config(InitLoraWeights::Olora).with_target_modules(["fc1"]),
    ] {
        let mut model = get_peft_model(net(), other).unwrap();
        let error = model.hotswap_adapter(folder.path(), "default");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("load_adapter replaces it"), "{error}");
    }
}

/// The commands: a training that saves the adapter converted, and a conversion with the initial
/// values.
#[test]
fn the_commands_convert_too() {
    let lab = Lab::new();
    let set = |key: &'static str| ["--set", key];
    let args = [
        &["train", "train.toml"][..],
        &set("peft.init_lora_weights=pissa"),
        &set("peft.lora_dropout=0"),
    ]
    .concat();
    lab.ok(&[&args[..], &set("training.output_dir=pissa")].concat());
    let more = [&set("training.output_dir=plain")[..], &["--save-converted"]];
    let out = lab.ok(&[&args[..], &more.concat()].concat());
    assert!(out.contains("saved as LORA of rank 8"), "{out}");
    lab.ok(&[
        &args[..],
        &set("training.output_dir=initial"),
        &set("training.learning_rate=0"),
    ]
    .concat());
    let convert = ["convert", "--adapter", "pissa", "--initial", "initial"];
    lab.ok(&[&convert[..], &["--output", "converted"]].concat());
    let loss = |adapter| lab.loss("train.jsonl", &["--model", "model", "--adapter", adapter]);
    let expected = loss("pissa");
    for name in ["plain", "converted"] {
        assert!((loss(name) - expected).abs() < 1e-4, "{name}");
        let config: serde_json::Value =
            serde_json::from_slice(&lab.read(&format!("{name}/adapter_config.json"))).unwrap();
        assert_eq!(config["init_lora_weights"], true);
    }
    let plain = ["train", "train.toml", "--save-converted"];
    lab.fails(&plain, &["init_lora_weights = true"]);
    let pissa = ["convert", "--adapter", "pissa", "--output", "new"];
    assert_eq!(lab.peft(&pissa).code, Some(2));
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
