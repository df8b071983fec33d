//! Whole runs, compared step by step with transformers' `Trainer` and PEFT
//! (`fixtures/parity/make.py`).

use std::fs;
use std::path::Path;

use burn_peft::{files, tensor_file};
use serde_json::Value;

use crate::common::Lab;
use crate::conformance::fixtures;

/// A JSON value as TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let entries = object
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Runs a case and compares the loss, learning rate and gradient norm of every step. Returns the
/// lab.
fn run(name: &str) -> Lab {
    let lab = Lab::new();
    let folder = fixtures().join("parity");
    let place = |part: &str| Value::from(folder.join(part).to_str().unwrap());
    let case = fs::read(folder.join(format!("cases/{name}.json"))).unwrap();
    let case: Value = serde_json::from_slice(&case).unwrap();
    let trained = match name {
        "full" => "[peft]\npeft_type = \"NONE\"".to_string(),
        _ => String::new(),
    };
    let adapter = match name {
        "full" => String::new(),
        _ => format!("adapter = {}", place("adapter")),
    };
    let mut training = String::new();
    for (key, value) in case["training"].as_object().unwrap() {
        training.push_str(&format!("{key} = {}\n", toml(value)));
    }
    let config = format!(
        "model = {}\n{adapter}\n[data]\ntrain = {}\n{trained}\n[training]\noutput_dir = 'run'\n\
         logging_steps = 1\nsave_strategy = 'no'\ntrain_sampling_strategy = 'sequential'\n{training}",
        place("model"),
        place("rows.jsonl")
    );
    lab.write("parity.toml", config);
    lab.ok(&["train", "parity.toml"]);

    let steps = lab.metrics("run");
    let expected = case["steps"].as_array().unwrap();
    assert_eq!(steps.len(), expected.len());
    let mut worst = [0f64; 3];
    for (found, expected) in steps.iter().zip(expected) {
        for (index, (key, tolerance)) in [
            ("loss", 1e-4),
            ("learning_rate", 1e-12),
            ("grad_norm", 1e-3),
        ]
        .into_iter()
        .enumerate()
        {
            let (found_value, expected) = (
                found[key].as_f64().unwrap(),
                expected[index].as_f64().unwrap(),
            );
            let error = (found_value - expected).abs() / expected.abs().max(1e-12);
            worst[index] = worst[index].max(error);
            assert!(
                error <= tolerance,
                "{name}, step {}: {key} is {found_value}, the Trainer has {expected} ({error:.1e})",
                found["step"]
            );
        }
    }
    println!(
        "{name}: {} steps, relative errors at most: loss {:.1e}, learning_rate {:.1e}, grad_norm {:.1e}",
        steps.len(),
        worst[0],
        worst[1],
        worst[2]
    );
    lab
}

#[test]
fn two_hundred_steps_of_lora() {
    let lab = run("lora");
    let read =
        |folder: &Path| tensor_file::read_tensors(&folder.join(files::WEIGHTS_NAME)).unwrap();
    let found = read(&lab.path("run"));
    let expected = read(&fixtures().join("parity/trained"));
    assert_eq!(found.len(), 16);
    assert!(found.keys().eq(expected.keys()));
    for (name, expected) in &expected {
        let found: Vec<f32> = found[name].clone().try_to_vec().unwrap();
        let expected: Vec<f32> = expected.clone().try_to_vec().unwrap();
        let error = crate::common::largest_difference(&found, &expected);
        assert!(error < 1e-3, "{name}: {error}");
    }
}

#[test]
fn forty_steps_of_lora_plus() {
    run("loraplus");
}

/// All weights are trained. Weight decay does not apply to biases and norms.
#[test]
fn forty_steps_of_full_training() {
    run("full");
}

#[test]
fn forty_steps_of_sgd_without_clipping() {
    run("sgd");
}

#[test]
fn forty_steps_of_adafactor() {
    run("adafactor");
}
