//! Outputs, gradients, merged weights, files, printed trees, initial values and refusals are the
//! same as in PEFT.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use burn_peft::config::{InitLoraWeights, TargetModules};
use burn_peft::{IA3Config, LoraConfig, PeftModel, files, get_peft_model};

use super::{Image, Net, Signal, folder, inputs, net, read};
use crate::common::device;

fn cases<N: Net>() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_case = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.is_dir() && name.starts_with(N::NAME)
    };
    let mut cases: Vec<_> = paths.filter(is_case).collect();
    cases.sort();
    assert!(cases.len() >= 8, "{cases:?}");
    cases
}

/// Asserts that the values are equal within 1e-5 of the largest one.
fn assert_close(case: &Path, what: &str, found: &TensorData, expected: &TensorData) {
    assert_eq!(
        found.shape(),
        expected.shape(),
        "{}: {what}",
        case.display()
    );
    let values = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
    let (found, expected) = (values(found), values(expected));
    let largest = expected
        .iter()
        .fold(0_f32, |most, value| most.max(value.abs()));
    for (index, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (a - b).abs() <= 1e-5 * largest,
            "{}: {what}[{index}] is {a}, PEFT has {b}",
            case.display()
        );
    }
}

fn outputs_gradients_and_merged_weights<N: Net>() {
    let (x, target) = inputs::<N>();
    for case in cases::<N>() {
        let expected = read(&case.join("expected.safetensors"));
        let close = |what: &str, found: TensorData| {
            let expected = expected.get(what).expect(what);
            assert_close(&case, what, &found, expected);
        };
        let model = PeftModel::from_pretrained(net::<N>(), &case, true).unwrap();
        close("output", model.forward(x.clone()).into_data());
        if !case.ends_with("signal_lora") {
            // A trained bias is not switched off with the adapter.
            let base = model.disable_adapter(|model| model.forward(x.clone()));
            close("base", base.into_data());
        }

        let model = model.train();
        let x = N::tracked(x.clone());
        // Without the dropout of training.
        let output = burn_peft::without_dropout(|| model.forward(x.clone()));
        let loss = (output - target.clone().autodiff()).square().mean();
        let gradients = loss.backward();
        close("grad.x", N::gradient(&x, &gradients));
        let mut keys: Vec<&str> = (expected.keys().map(String::as_str))
            .filter(|key| key.starts_with("grad.base"))
            .collect();
        for (key, gradient) in model.adapter_gradients("default", &gradients) {
            let key = format!("grad.{key}");
            keys.retain(|other| *other != key);
            close(&key, gradient.expect(&key));
        }
        keys.retain(|key| !key.ends_with("base_layer.bias"));
        assert!(keys.is_empty(), "{}: no {keys:?}", case.display());
        let gradients = GradientsParams::from_grads(gradients, &model);
        model.check_gradients(&gradients).unwrap();

        let mut model = model.valid();
        if case.to_str().unwrap().ends_with("groups") {
            let error = model.merge_and_unload(true).unwrap_err().to_string();
            assert!(error.contains("into conv2"), "{error}");
            continue;
        }
        let x =
            N::input(read(&folder().join(format!("{}_inputs.safetensors", N::NAME)))["x"].clone());
        model.merge_adapter(true).unwrap();
        close("merged", model.forward(x.clone()).into_data());
        model.unmerge_adapter();
        close("output", model.forward(x.clone()).into_data());
        let merged = model.merge_and_unload(true).unwrap();
        close("merged", merged.forward(x).into_data());
        merged.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
            let kind = slot.kind();
            slot.visit_base(&mut |name, param| {
                let data = param.to_data();
                let data = if kind.is_transposed(name) {
                    Tensor::<2>::from_data(data, &device())
                        .transpose()
                        .into_data()
                } else {
                    data
                };
                close(&format!("weight.{path}.{name}"), data);
            });
        });
    }
}

#[test]
fn images_have_the_outputs_gradients_and_merged_weights_of_peft() {
    outputs_gradients_and_merged_weights::<Image>();
}

#[test]
fn signals_have_the_outputs_gradients_and_merged_weights_of_peft() {
    outputs_gradients_and_merged_weights::<Signal>();
}

/// PEFT's files are read and written back byte for byte, so Python's peft can read what is written
/// here.
fn files_and_trees<N: Net>() {
    for case in cases::<N>() {
        let model = PeftModel::from_pretrained(net::<N>(), &case, false).unwrap();
        let written = tempfile::tempdir().unwrap();
        model.save_pretrained(written.path()).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            let bytes = |path: &Path| fs::read(path.join(name)).unwrap();
            let same = bytes(written.path()) == bytes(&case);
            assert!(same, "{}/{name} differs", case.display());
        }
        let expected = fs::read_to_string(case.join("tree.txt")).unwrap();
        // PyTorch also prints empty dictionaries.
        let empty =
            |line: &&str| !line.ends_with("ParameterDict()") && !line.ends_with("ModuleDict()");
        let expected: String = expected
            .lines()
            .filter(empty)
            .map(|line| format!("{line}\n"))
            .collect();
        let found = format!("{}\n", model.tree());
        assert!(
            found == expected,
            "{}:\n{found}\n{expected}",
            case.display()
        );
    }
}

#[test]
fn files_are_written_back_and_trees_printed_as_peft_does() {
    files_and_trees::<Image>();
    files_and_trees::<Signal>();
}

/// A new adapter has tensors of the same shapes as PEFT's. Where PEFT's are zero they are zero, and
/// the others are within PEFT's bounds.
fn first_values<N: Net>() {
    let (x, _) = inputs::<N>();
    for case in cases::<N>() {
        let loaded = PeftModel::from_pretrained(net::<N>(), &case, false).unwrap();
        let mut config = loaded.config("default").unwrap().common().clone();
        config.inference_mode = false;
        let config = loaded.config("default").unwrap().with_common(config);
        let model = PeftModel::new(net::<N>(), "default", config).unwrap();
        let first = read(&case.join("first.safetensors"));
        let mut state = model.adapter_state_dict("default");
        state.retain(|(key, _)| !key.ends_with("base_layer.bias"));
        let count = first
            .keys()
            .filter(|key| !key.ends_with("base_layer.bias"))
            .count();
        assert_eq!(state.len(), count, "{}", case.display());
        for (key, data) in state {
            let expected = &first[&key];
            assert_eq!(data.shape(), expected.shape(), "{}: {key}", case.display());
            let largest = |data: &TensorData| {
                let values = data.iter::<f32>();
                values.fold(0_f32, |most, value| most.max(value.abs()))
            };
            let (found, expected) = (largest(&data), largest(expected));
            assert_eq!(found == 0.0, expected == 0.0, "{}: {key}", case.display());
            // The largest of so many uniform values is close to their bound.
            let ratio = if found == 0.0 { 1.0 } else { found / expected };
            let is_near = data.num_elements() < 16 || (0.5..2.0).contains(&ratio);
            let case = case.display();
            assert!(is_near, "{case}: {key} up to {found}, PEFT {expected}");
        }
        if !case.ends_with("image_ia3") {
            let base = model.disable_adapter(|model| model.forward(x.clone()));
            let same = model.forward(x.clone()).all_close(base, None, Some(1e-5));
            assert!(same, "{}", case.display());
        }
    }
}

#[test]
fn new_adapters_begin_as_in_peft() {
    first_values::<Image>();
    first_values::<Signal>();
}

/// What PEFT refuses or computes wrongly is refused, with the layer and the way out.
#[test]
fn what_peft_refuses_is_refused() {
    let image = |config: LoraConfig| {
        let error = get_peft_model(net::<Image>(), config).unwrap_err();
        error.to_string()
    };
    let lora = |name: &str| LoraConfig::new().with_r(4).with_target_modules([name]);
    for (config, named) in [
        (lora("conv4"), "conv4: LoRA takes no dilated convolution"),
        (
            lora("conv2").with_r(3),
            "conv2: r = 3 is not a multiple of the 2 groups",
        ),
        (lora("conv2").with_use_dora(true), "conv2: use_dora = true"),
        (
            lora("conv1").with_init_lora_weights(InitLoraWeights::Olora),
            "conv1: init_lora_weights = \"olora\" is for linear layers",
        ),
    ] {
        let error = image(config);
        assert!(error.contains(named), "{error}");
    }
    let ia3 = IA3Config::new().with_target_modules(["conv1"]);
    let ia3 = IA3Config {
        feedforward_modules: Some(TargetModules::List(vec![])),
        ..ia3
    };
    let error = get_peft_model(net::<Signal>(), ia3)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("conv1") && error.contains("Conv1d"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "takes [batch, 3, height, width]")]
fn an_image_with_other_channels_is_named() {
    net::<Image>()
        .conv1
        .forward(Tensor::zeros([1, 4, 9, 8], &device()));
}
