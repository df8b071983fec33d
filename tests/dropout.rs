//! Dropout acts in training, wherever the configurations have it, and never else.

use crate::common::device;
use burn::module::Module;
use burn_peft::config::InitLoraWeights;
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, Gpt2Config, LmBatch};

fn model(embd: f64, attn: f64, resid: f64) -> GPT2LMHeadModel {
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
    GPT2LMHeadModel::new(&config, &device())
}

/// The loss of the same batch, twice.
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
