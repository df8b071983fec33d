//! AdaLoRA's run, compared step by step with Python's peft (`fixtures/adalora/make.py`).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::TensorData;
use burn_peft::PeftModel;
use burn_peft::methods::AdaLoraConfig;
use burn_peft::{files, tensor_file};
use burn_peft_models::GPT2LMHeadModel;
use burn_peft_train::{TrainingArguments, adamw};
use serde_json::Value;

use crate::conformance::{base, batch, fixtures, mean_loss, without_dropout};

const STEPS: usize = 12;

fn config() -> AdaLoraConfig {
    let mut config = AdaLoraConfig {
        target_r: 3,
        init_r: 8,
        total_step: Some(STEPS),
        tinit: 2,
        tfinal: 3,
        delta_t: 2,
        beta2: 0.8,
        orth_reg_weight: 0.1,
        ..Default::default()
    };
    config.common.target_modules = Some(burn_peft::config::TargetModules::list(["c_attn"]));
    config.common.task_type = Some(burn_peft::config::TaskType::CausalLm);
    config
}

fn singular_values(model: &PeftModel<GPT2LMHeadModel>) -> Vec<(String, TensorData)> {
    let (layers, adapter) = (model.layers(), "default");
    let values = layers.iter().filter_map(|layer| {
        let data = model.adapter_tensor(&layer.path, adapter, "lora_E")?;
        Some((layer.path.clone(), data))
    });
    values.collect()
}

#[test]
fn ranks_and_losses_are_those_of_the_reference() {
    let folder = fixtures().join("adalora");
    let case = fixtures().join("conformance/cases/gpt2_adalora");
    let run: Value =
        serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    let expected = tensor_file::read_tensors(&folder.join("run.safetensors")).unwrap();

    let mut model = PeftModel::new(base(), "default", std::sync::Arc::new(config())).unwrap();
    model.restore_pretrained(&case).unwrap();
    let mut model = without_dropout(model.train());
    let batch = batch(&case);
    let arguments = TrainingArguments {
        weight_decay: 0.01,
        ..Default::default()
    };
    let mut optimizer = adamw(&arguments);
    for step in 1..=STEPS {
        let loss = mean_loss(&model, &batch);
        let expected_loss = run["losses"][step - 1].as_f64().unwrap();
        let found = loss.clone().inner().into_scalar::<f32>() as f64;
        assert!(
            (found - expected_loss).abs() < 1e-4,
            "step {step}: {found} {expected_loss}"
        );
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let seen = model.step_gradients(&gradients);
        model = optimizer.step(1e-2, model, gradients);
        model.after_step(step, &seen);

        let json = model.config("default").unwrap().to_json();
        let pattern = match &run["patterns"][step - 1] {
            Value::Object(map) if map.is_empty() => Value::Null,
            pattern => pattern.clone(),
        };
        assert_eq!(json["rank_pattern"], pattern, "after step {step}");
        for (path, values) in singular_values(&model) {
            let expected = &expected[&format!("{step}.{path}.lora_E")];
            let pairs = values.iter::<f32>().zip(expected.iter::<f32>());
            for (found, expected) in pairs {
                assert!((found - expected).abs() < 1e-4, "step {step} {path}");
                assert_eq!(found == 0.0, expected == 0.0, "step {step} {path}");
            }
        }
    }

    // The file has the remaining ranks, and PEFT's keys.
    let saved = tempfile::tempdir().unwrap();
    model.save_pretrained(saved.path()).unwrap();
    let found = tensor_file::read_tensors(&saved.path().join(files::WEIGHTS_NAME)).unwrap();
    let reference =
        tensor_file::read_tensors(&folder.join("final").join(files::WEIGHTS_NAME)).unwrap();
    assert_eq!(found.len(), reference.len());
    for (key, data) in &reference {
        assert_eq!(found[key].shape(), data.shape(), "{key}");
        for (a, b) in found[key].iter::<f32>().zip(data.iter::<f32>()) {
            assert!((a - b).abs() < 1e-3, "{key}: {a} {b}");
        }
    }
    let text = |folder: &std::path::Path| {
        std::fs::read_to_string(folder.join(files::CONFIG_NAME)).unwrap()
    };
    assert_eq!(text(saved.path()), text(&folder.join("final")));

    // The saved adapter computes the same.
    let loaded = PeftModel::from_pretrained(base(), saved.path(), false).unwrap();
    let model = model.valid();
    let logits = |model: &PeftModel<GPT2LMHeadModel>| crate::conformance::logits(model, &case);
    for (a, b) in logits(&loaded).iter().zip(logits(&model)) {
        assert!((a - b).abs() < 1e-5);
    }
    assert!(loaded.get_nb_trainable_parameters().1 < model.get_nb_trainable_parameters().1);
}
