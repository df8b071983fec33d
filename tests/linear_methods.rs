//! Methods on a small linear network, compared with numbers from Python's peft
//! (`fixtures/linear/make.py`): those that PEFT cannot put on GPT-2, and a second shape for some of
//! the others.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use burn_peft::{
    Adaptable, LoraAdapter, PeftModel, ShiraConfig, Slot, StepGradients, files, get_peft_model,
    tensor_file,
};

use crate::common::device;
use crate::conformance::{assert_close, fixtures};

#[derive(Module, Adaptable, Debug)]
pub struct Net {
    pub fc1: LoraAdapter<Linear>,
    pub fc2: LoraAdapter<Linear>,
}

impl Net {
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(relu(self.fc1.forward(x)))
    }
}

type Tensors = std::collections::HashMap<String, TensorData>;

fn read(path: &Path) -> Tensors {
    tensor_file::read_tensors(path)
        .unwrap()
        .into_iter()
        .collect()
}

/// The network of the fixture.
pub fn net() -> Net {
    let device = device();
    let layer = |d_in, d_out| LoraAdapter::new(LinearConfig::new(d_in, d_out).init(&device));
    let mut net = Net {
        fc1: layer(12, 16),
        fc2: layer(16, 8),
    };
    let weights = read(&fixtures().join("linear/base.safetensors"));
    for (name, layer) in [("fc1", &mut net.fc1), ("fc2", &mut net.fc2)] {
        layer.visit_base_mut(&mut |part, param| {
            let data = weights[&format!("{name}.{part}")].clone();
            param.set_data(data, part == "weight");
        });
    }
    net
}

pub fn inputs() -> (Tensor<2>, Tensor<2>) {
    let tensors = read(&fixtures().join("linear/inputs.safetensors"));
    let tensor = |name: &str| Tensor::from_data(tensors[name].clone(), &device());
    (tensor("x"), tensor("target"))
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures().join("linear")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    cases.sort();
    assert_eq!(cases.len(), 24);
    cases
}

fn assert_near(case: &Path, what: &str, found: &TensorData, expected: &TensorData) {
    let [found, expected] = [found, expected].map(|data| data.iter::<f32>().collect::<Vec<_>>());
    assert_close(case, what, &found, &expected);
}

#[test]
fn outputs_with_without_and_merged() {
    let (x, _) = inputs();
    for case in cases() {
        let expected = read(&case.join("expected.safetensors"));
        let model = PeftModel::from_pretrained(net(), &case, true).unwrap();
        let output = model.forward(x.clone()).into_data();
        assert_near(&case, "output", &output, &expected["output"]);
        // A trained bias is not switched off with the adapter.
        let biases = ["boft", "miss", "delora"];
        if !biases.iter().any(|name| case.ends_with(name)) {
            let base = model.disable_adapter(|model| model.forward(x.clone()));
            assert_near(&case, "base", &base.into_data(), &expected["base"]);
        }
        let merged = model.merge_and_unload(true).unwrap().forward(x.clone());
        assert_near(&case, "merged", &merged.into_data(), &expected["merged"]);
    }
}

#[test]
fn gradients_and_eight_losses() {
    let (x, target) = inputs();
    let (x, target) = (x.autodiff(), target.autodiff());
    for case in cases() {
        let expected = read(&case.join("expected.safetensors"));
        let model = PeftModel::from_pretrained(net(), &case, true).unwrap();
        let mut model = model.train();
        let mut optimizer = AdamWConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(0.01)
            .init();
        let mut losses = Vec::new();
        for step in 0..8 {
            let loss = (model.forward(x.clone()) - target.clone()).square().mean();
            losses.push(loss.clone().inner().into_scalar::<f32>());
            let gradients = loss.backward();
            if step == 0 {
                let found = model.adapter_gradients("default", &gradients);
                assert!(!found.is_empty());
                for (key, gradient) in found {
                    let expected = &expected[&format!("grad.{key}")];
                    assert_near(&case, &key, &gradient.expect(&key), expected);
                }
            }
            let gradients = GradientsParams::from_grads(gradients, &model);
            model.check_gradients(&gradients).unwrap();
            model = optimizer.step(1e-2, model, gradients);
            model.after_step(step + 1, &StepGradients::default());
        }
        let losses = TensorData::new(losses, [8]);
        assert_near(&case, "losses", &losses, &expected["losses"]);
    }
}

#[test]
fn files_are_written_back_as_they_were() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let model = PeftModel::from_pretrained(net(), &case, false).unwrap();
        model.save_pretrained(folder.path()).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            let bytes = |path: &Path| fs::read(path.join(name)).unwrap();
            assert!(
                bytes(folder.path()) == bytes(&case),
                "{}/{name} differs",
                case.display()
            );
        }
    }
}

#[test]
fn trees_are_printed_as_in_pytorch() {
    let mut cases = cases();
    cases.retain(|case| case.join("tree.txt").exists());
    assert_eq!(cases.len(), 8);
    for case in cases {
        let model = PeftModel::from_pretrained(net(), &case, false).unwrap();
        let expected = fs::read_to_string(case.join("tree.txt")).unwrap();
        let found = format!("{}\n", model.tree());
        assert!(found == expected, "{}:\n{found}", case.display());
    }
}

/// An index outside the weight, or between two entries, is an error.
#[test]
fn shira_refuses_places_that_are_none() {
    let case = fixtures().join("linear/shira");
    let key = "base_model.model.fc2.shira_indices";
    for wrong in [8.0, -1.0, 0.5, f32::NAN] {
        let folder = tempfile::tempdir().unwrap();
        let copy = |name: &str| fs::copy(case.join(name), folder.path().join(name)).unwrap();
        copy(files::CONFIG_NAME);
        let mut tensors = read(&case.join(files::WEIGHTS_NAME));
        let data = &tensors[key];
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        values[3] = wrong;
        let shape = data.shape().to_vec();
        tensors.insert(key.into(), TensorData::new(values, shape));
        let path = folder.path().join(files::WEIGHTS_NAME);
        tensor_file::write_tensors(&path, tensors.into_iter().collect()).unwrap();
        let error = PeftModel::from_pretrained(net(), folder.path(), false).unwrap_err();
        let named = format!("{key} has the index {wrong}");
        assert!(error.to_string().contains(&named), "{error}");
    }
}

/// The indices are those that PyTorch draws, with a seed and without one.
#[test]
fn shira_draws_what_pytorch_draws() {
    let case = fixtures().join("linear/shira");
    let drawn = |seed| {
        let config = ShiraConfig {
            r: 2,
            random_seed: seed,
            ..ShiraConfig::new().with_target_modules(["fc1", "fc2"])
        };
        let model = get_peft_model(net(), config).unwrap();
        model.adapter_state_dict("default").into_iter().collect()
    };
    let same = |found: Tensors, path: &Path| {
        let expected = read(path);
        for (key, data) in &found {
            if key.ends_with("shira_indices") {
                assert_near(path, key, data, &expected[key]);
            }
        }
    };
    same(drawn(Some(5)), &case.join(files::WEIGHTS_NAME));
    same(
        drawn(None),
        &fixtures().join("linear/shira_places.safetensors"),
    );
}

/// In training, BOFT's dropout replaces one of the four blocks of `fc2` by the identity.
#[test]
fn boft_leaves_out_blocks() {
    let case = fixtures().join("linear/boft");
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(case.join(files::CONFIG_NAME)).unwrap();
    let text = text.replace("\"boft_dropout\": 0.0", "\"boft_dropout\": 0.3");
    fs::write(folder.path().join(files::CONFIG_NAME), text).unwrap();
    let weights = |folder: &Path| folder.join(files::WEIGHTS_NAME);
    fs::copy(weights(&case), weights(folder.path())).unwrap();
    let model = PeftModel::from_pretrained(net(), folder.path(), true).unwrap();
    let (x, _) = inputs();
    let expected = read(&case.join("expected.safetensors"));
    let output = model.forward(x.clone()).into_data();
    assert_near(&case, "output", &output, &expected["output"]);

    let without = read(&fixtures().join("linear/boft_dropout.safetensors"));
    let (model, x) = (model.train(), x.autodiff());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..40 {
        let output = model.forward(x.clone()).inner();
        let mut blocks = without.iter();
        let found = blocks.find(|(_, expected)| {
            let expected = Tensor::<2>::from_data((*expected).clone(), &device());
            let largest = (output.clone() - expected).abs().max();
            largest.into_scalar::<f32>() < 1e-4
        });
        seen.insert(found.expect("the output without one block").0.clone());
    }
    assert_eq!(seen.len(), 4);
}
