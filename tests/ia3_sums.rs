//! `add_weighted_adapter` for (IA)³, compared with Python's peft (`fixtures/weighted_ia3/make.py`).

use std::sync::Arc;

use burn_peft::combine::{Combination, CombinationType};
use burn_peft::methods::IA3Config;
use burn_peft::{PeftModel, files, tensor_file};

use crate::common::{Lab, largest_difference};
use crate::conformance::fixtures;
use crate::linear_methods::{Net, net};

/// The network with the adapters `a` and `b`.
fn model() -> PeftModel<Net> {
    let folder = fixtures().join("weighted_ia3");
    let config = files::read_config(&folder.join("a")).unwrap();
    let mut model = PeftModel::new(net(), "a", config).unwrap();
    for name in ["a", "b"] {
        model.load_adapter(folder.join(name), name, false).unwrap();
    }
    model
}

#[test]
fn weighted_sums_are_pefts() {
    let mut model = model();
    let linear = Combination::new(CombinationType::Linear);
    for (name, weights) in [("sum", [0.7, 0.3]), ("difference", [1.2, -0.4])] {
        let adapters = [("a", weights[0]), ("b", weights[1])];
        model
            .add_weighted_adapter(&adapters, name, &linear)
            .unwrap();
        let folder = fixtures().join("weighted_ia3").join(name);
        let expected = tensor_file::read_tensors(&folder.join(files::WEIGHTS_NAME)).unwrap();
        let found = model.adapter_state_dict(name);
        assert_eq!(found.len(), expected.len());
        for (key, found) in found {
            let values = |data: &burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<_>>();
            assert_eq!(found.shape(), expected[&key].shape(), "{key}");
            let difference = largest_difference(&values(&found), &values(&expected[&key]));
            assert!(difference < 1e-6, "{name} {key}: {difference}");
        }
    }
    let config = model.config("sum").unwrap().to_json();
    let names = |key: &str| {
        let mut names: Vec<String> = serde_json::from_value(config[key].clone()).unwrap();
        names.sort();
        names
    };
    assert_eq!(names("target_modules"), ["fc1", "fc2"]);
    assert_eq!(names("feedforward_modules"), ["fc2"]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut model = model();
    let feedforward: IA3Config = serde_json::from_value(serde_json::json!({
        "feedforward_modules": ["fc1"],
    }))
    .unwrap();
    let mut feedforward = feedforward;
    feedforward.common.target_modules = Some(burn_peft::config::TargetModules::list(["fc1"]));
    model.add_adapter("ff", Arc::new(feedforward)).unwrap();
    let linear = Combination::new(CombinationType::Linear);
    for (adapters, combination, message) in [
        (
            [("a", 1.0), ("b", 1.0)],
            Combination::new(CombinationType::Svd),
            "linear alone",
        ),
        (
            [("a", 1.0), ("ff", 1.0)],
            linear.clone(),
            "feedforward_modules",
        ),
        ([("a", f64::NAN), ("b", 1.0)], linear.clone(), "not finite"),
        ([("a", 1.0), ("c", 1.0)], linear, "no adapter `c`"),
    ] {
        let error = model.add_weighted_adapter(&adapters, "new", &combination);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(model.config("new").is_err());
    }
}

#[test]
fn the_command_sums_folders() {
    let lab = Lab::new();
    let folder = fixtures().join("weighted_ia3");
    let adapter = |name: &str, weight| format!("{}:{weight}", folder.join(name).display());
    let (a, b) = (adapter("a", 1.2), adapter("b", -0.4));
    let args = ["combine", "--adapter", &a, "--adapter", &b, "--output", "o"];
    lab.peft(&args).failed(&["linear alone"]);
    let out = lab.ok(&[&args[..], &["--method", "linear"]].concat());
    assert!(out.starts_with("linear of 2 adapters: 2 layers"), "{out}");
    let read = |folder: &std::path::Path| {
        let path = folder.join(files::WEIGHTS_NAME);
        tensor_file::read_tensors(&path).unwrap()
    };
    let (found, expected) = (read(&lab.path("o")), read(&folder.join("difference")));
    assert_eq!(found.len(), expected.len());
    for (key, expected) in expected {
        let values = |data: &burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<_>>();
        assert!(largest_difference(&values(&found[&key]), &values(&expected)) < 1e-6);
    }
}
