//! Dropout acts in training, at every place that a configuration sets, and at no other time.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_peft::config::InitLoraWeights;
use burn_peft::{LoraConfig, get_peft_model, with_seed};
use burn_peft_kernels::with_plain_bodies;
use burn_peft_models::{CausalLm, Decoder, GPT2LMHeadModel, Gpt2Config, LmBatch, ModelInput};

use crate::common::device;
use crate::steps::all;

fn model(embd: f64, attn: f64, resid: f64) -> GPT2LMHeadModel {
    on(&device(), embd, attn, resid)
}

fn on(device: &Device, embd: f64, attn: f64, resid: f64) -> GPT2LMHeadModel {
    let config = Gpt2Config {
        vocab_size: 32,
        n_positions: 16,
        n_embd: 16,
        n_layer: 2,
        n_head: 2,
        embd_pdrop: embd,
        attn_pdrop: attn,
        resid_pdrop: resid,
        initializer_range: 0.2,
        ..Default::default()
    };
    GPT2LMHeadModel::new(&config, device)
}

/// The loss of the same batch, computed twice.
fn losses(model: &impl CausalLm) -> [f32; 2] {
    let ids: Vec<i64> = (0..16).map(|i| i * 7 % 32).collect();
    let batch = LmBatch::new(&ids, &[1; 16], &ids, [2, 8], &device()).unwrap();
    let loss = || model.loss(&batch).without_autodiff().into_scalar::<f32>();
    [loss(), loss()]
}

#[test]
fn of_embeddings_attention_and_residuals() {
    for (place, [embd, attn, resid]) in [
        ("embd_pdrop", [0.5, 0.0, 0.0]),
        ("attn_pdrop", [0.0, 0.5, 0.0]),
        ("resid_pdrop", [0.0, 0.0, 0.5]),
    ] {
        let model = model(embd, attn, resid);
        let [first, second] = losses(&model);
        assert_eq!(first, second, "{place} acts outside training");
        let model = model.train();
        let [first, second] = losses(&model);
        assert_ne!(first, second, "{place} does not act in training");
        let [first, second] = losses(&model.valid());
        assert_eq!(first, second, "{place} acts after training");
    }
}

#[test]
fn of_the_adapter() {
    let config = LoraConfig::new()
        .with_lora_dropout(0.5)
        .with_init_lora_weights(InitLoraWeights::False)
        .with_target_modules(["c_attn"]);
    let model = get_peft_model(model(0.0, 0.0, 0.0), config).unwrap();
    let [first, second] = losses(&model);
    assert_eq!(first, second);
    let [first, second] = losses(&model.train());
    assert_ne!(first, second, "lora_dropout does not act in training");
}

/// With the same seed, the adapter and the dropped values are the same on the CPU, with and without
/// its kernels, and on the device of the tests. This is tested with texts of three lengths, and
/// with a mask for more than padding.
#[test]
fn a_seed_is_the_same_on_every_device() {
    let base = on(&Device::flex(), 0.2, 0.3, 0.4);
    let run = |device: &Device| {
        let base = base.clone().to_device(device);
        let config = LoraConfig::new()
            .with_lora_dropout(0.5)
            .with_init_lora_weights(InitLoraWeights::False)
            .with_target_modules(["c_attn", "c_proj"]);
        let model = with_seed(5, || get_peft_model(base, config));
        let model = model.unwrap().train();
        let ids: Vec<i64> = (0..48).map(|i| i * 7 % 32).collect();
        let mask: Vec<i64> = (0..48)
            .map(|i| i64::from(i % 16 < [16, 9, 4][i as usize / 16]))
            .collect();
        let labels: Vec<i64> = ids
            .iter()
            .zip(&mask)
            .map(|(id, m)| if *m == 1 { *id } else { -100 })
            .collect();
        let batch = LmBatch::new(&ids, &mask, &labels, [3, 16], device).unwrap();
        let loss = with_seed(6, || model.loss(&batch)) / batch.count as f32;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let gradients = all(&model, &gradients).into_iter().flatten();
        let gradients = gradients.flat_map(|data| data.iter::<f32>().collect::<Vec<_>>());
        let holes = ModelInput {
            attention_mask: Some(Tensor::from_data([[1, 0, 1, 1], [1, 1, 0, 1]], device)),
            ..ModelInput::new(Tensor::from_data([[1, 2, 3, 4], [5, 6, 7, 8]], device))
        };
        let logits = with_seed(7, || model.forward(holes)).into_data();
        (
            loss.without_autodiff().into_scalar::<f32>(),
            gradients.collect::<Vec<_>>(),
            logits.iter::<f32>().collect::<Vec<_>>(),
        )
    };
    let close = |values: &[f32], others: &[f32]| {
        assert_eq!(values.len(), others.len());
        let largest = values
            .iter()
            .fold(0.0f32, |most, value| most.max(value.abs()));
        for (value, other) in values.iter().zip(others) {
            assert!(
                (value - other).abs() < 1e-4 * largest,
                "{value}, {other} of {largest}"
            );
        }
    };
    let (loss, gradients, logits) = run(&Device::flex());
    for (other, others, other_logits) in
        [with_plain_bodies(|| run(&Device::flex())), run(&device())]
    {
        assert!((loss - other).abs() < 1e-5, "{loss}, {other}");
        close(&gradients, &others);
        close(&logits, &other_logits);
    }
}
