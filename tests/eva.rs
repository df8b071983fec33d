//! EVA, compared with Python's peft (`fixtures/eva/make.py`).

use burn::tensor::{Int, Tensor};
use burn_peft::config::{EvaConfig, InitLoraWeights};
use burn_peft::{LoraConfig, PeftModel, files, get_peft_model, tensor_file};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, ModelInput};
use safetensors::SafeTensors;

use crate::common::{Lab, device, with_keys};
use crate::conformance::{base, fixtures};

fn config() -> LoraConfig {
    let mut config = LoraConfig::new()
        .with_r(16)
        .with_lora_alpha(8.0)
        .with_init_lora_weights(InitLoraWeights::Eva)
        .with_target_modules(["c_attn", "c_fc"]);
    config.eva_config = Some(EvaConfig {
        tau: 0.9,
        ..EvaConfig::default()
    });
    config
}

/// Two batches `[6, 24]` with the positions that count.
fn batches() -> Vec<(ModelInput, Tensor<1, Int>)> {
    let bytes = std::fs::read(fixtures().join("eva/inputs.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| -> Vec<i64> {
        let words = file.tensor(name).unwrap().data().as_chunks().0.iter();
        words.map(|word| i64::from_le_bytes(*word)).collect()
    };
    let (ids, labels) = (read("input_ids"), read("labels"));
    let device = device();
    let batches = ids.chunks(144).zip(labels.chunks(144));
    let batches = batches.map(|(ids, labels)| {
        let ids = Tensor::<1, Int>::from_data(ids, &device).reshape([6, 24]);
        let counted = (0..144).filter(|&i| labels[i as usize] != -100);
        let counted: Vec<i64> = counted.collect();
        let counted = Tensor::from_data(counted.as_slice(), &device);
        (ModelInput::new(ids), counted)
    });
    batches.collect()
}

fn initialize(
    model: &mut PeftModel<GPT2LMHeadModel>,
    batches: &[(ModelInput, Tensor<1, Int>)],
) -> burn_peft::Result<()> {
    model.initialize_lora_eva_weights(
        "default",
        batches,
        |model, (input, _)| drop(model.forward(input.clone())),
        |(_, positions)| positions.clone(),
    )
}

#[test]
fn ranks_and_directions_are_pefts() {
    let folder = fixtures().join("eva/adapter");
    let mut model = get_peft_model(base(), config()).unwrap();
    initialize(&mut model, &batches()).unwrap();
    let found = model.config("default").unwrap().to_json();
    let expected = files::read_config(&folder).unwrap().to_json();
    for key in ["rank_pattern", "alpha_pattern", "r", "lora_alpha"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
    let tensors = tensor_file::read_tensors(&folder.join(files::WEIGHTS_NAME)).unwrap();
    let found = model.adapter_state_dict("default");
    assert_eq!(found.len(), tensors.len());
    for (key, found) in found {
        let values = |data: &burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let shape = found.shape().to_vec();
        assert_eq!(shape, tensors[&key].shape().to_vec(), "{key}");
        let (found, expected) = (values(&found), values(&tensors[&key]));
        let rows = found.chunks(shape[1]).zip(expected.chunks(shape[1]));
        for (row, (a, b)) in rows.enumerate() {
            let apart = |sign: f32| {
                let pairs = a.iter().zip(b);
                pairs.map(|(a, b)| (a - sign * b).abs()).fold(0.0, f32::max)
            };
            let apart = apart(1.0).min(apart(-1.0));
            assert!(apart < 2e-3, "{key}, row {row}: {apart}");
        }
    }
    // The same parameters are trained as before.
    assert_eq!(model.active_adapters(), ["default"]);
    assert!(model.get_nb_trainable_parameters().0 > 0);
}

#[test]
fn what_cannot_be_is_an_error() {
    let mut model = get_peft_model(base(), LoraConfig::new()).unwrap();
    let error = initialize(&mut model, &batches()).unwrap_err().to_string();
    assert!(error.contains("init_lora_weights = true"), "{error}");
    let mut model = get_peft_model(base(), config()).unwrap();
    let error = initialize(&mut model, &[]).unwrap_err().to_string();
    assert!(error.contains("got none"), "{error}");
    let mut model = get_peft_model(base(), config().with_r(40)).unwrap();
    let error = initialize(&mut model, &batches()).unwrap_err().to_string();
    assert!(error.contains("rank 80"), "{error}");
}

/// There are fewer packed rows than examples.
#[test]
fn packed_rows_are_looked_at_too() {
    let lab = Lab::new();
    lab.ok(&with_keys(
        "train.toml",
        &["data.packing=true", "peft.init_lora_weights=eva"],
    ));
    let config = lab.json("out/adapter_config.json");
    assert_eq!(config["init_lora_weights"], "eva");
}
