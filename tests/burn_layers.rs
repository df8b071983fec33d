//! Burn's attention and encoder with slots have the same numbers and the same records as without.

use burn::module::Module;
use burn::nn::attention::{self, MultiHeadAttentionConfig};
use burn::nn::transformer::{self, TransformerEncoderConfig};
use burn::tensor::{Bool, Device, Distribution, Tensor};
use burn_peft::nn::{MhaInput, MultiHeadAttention, TransformerEncoder, TransformerEncoderInput};
use burn_peft::{LoraConfig, PeftModel, get_peft_model};

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Default, device)
}

/// The masks of two sequences of five tokens.
fn masks(device: &Device) -> (Tensor<2, Bool>, Tensor<3, Bool>) {
    let pad = [[false; 5], [false, false, false, true, true]];
    let causal = Tensor::<2, Bool>::tril_mask([5, 5], 0, device);
    (
        Tensor::from_data(pad, device),
        causal.unsqueeze::<3>().repeat_dim(0, 2),
    )
}

#[test]
fn an_encoder_is_burns_and_takes_its_record() {
    let device = Device::flex();
    let (pad, causal) = masks(&device);
    for (norm_first, quiet) in [(false, false), (true, true)] {
        let config = TransformerEncoderConfig::new(8, 12, 2, 2)
            .with_norm_first(norm_first)
            .with_quiet_softmax(quiet);
        let plain = config.init(&device);
        let x = random([2, 5, 8], &device);
        let input = transformer::TransformerEncoderInput::new(x.clone());
        let expected = plain.forward(input.mask_pad(pad.clone()).mask_attn(causal.clone()));

        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("plain.bpk");
        plain.clone().save_file(&record).unwrap();
        let empty = TransformerEncoder::from(config.init(&device));
        for encoder in [plain.into(), empty.try_load_file(&record).unwrap()] {
            let encoder: TransformerEncoder = encoder;
            let input = TransformerEncoderInput::new(x.clone());
            let found = encoder.forward(input.mask_pad(pad.clone()).mask_attn(causal.clone()));
            assert!(found.all_close(expected.clone(), None, Some(1e-5)));
        }
    }
}

#[test]
fn attention_is_burns() {
    let device = Device::flex();
    let (pad, _) = masks(&device);
    let plain = MultiHeadAttentionConfig::new(8, 4).init(&device);
    let [query, keys, values] = [3, 5, 5].map(|length| random([2, length, 8], &device));
    let input = attention::MhaInput::new(query.clone(), keys.clone(), values.clone());
    let expected = plain.forward(input.mask_pad(pad.clone()));
    let input = MhaInput::new(query, keys, values).mask_pad(pad);
    let found = MultiHeadAttention::from(plain).forward(input);
    for (found, expected) in [
        (
            found.context.clone().flatten::<1>(0, 2),
            expected.context.flatten::<1>(0, 2),
        ),
        (found.weights.flatten(0, 3), expected.weights.flatten(0, 3)),
    ] {
        assert!(found.all_close(expected, None, Some(1e-5)));
    }
}

/// An adapter is attached by the names of Burn's fields and merged. Burn's own layers then load the
/// merged record.
#[test]
fn an_adapted_encoder_is_merged_into_burns() {
    let device = Device::flex();
    let config = TransformerEncoderConfig::new(8, 12, 2, 1).with_dropout(0.0);
    let encoder = TransformerEncoder::from(config.init(&device));
    let lora = LoraConfig::new()
        .with_r(2)
        .with_init_lora_weights(burn_peft::config::InitLoraWeights::False)
        .with_target_modules(["query", "linear_inner"]);
    let model: PeftModel<TransformerEncoder> = get_peft_model(encoder, lora).unwrap();
    assert_eq!(
        model.get_nb_trainable_parameters().0,
        2 * (8 + 8) + 2 * (8 + 12)
    );
    let tree = model.tree().to_string();
    assert!(tree.contains("(query): lora.Linear("), "{tree}");

    let x = random([1, 5, 8], &device);
    let expected = model.forward(TransformerEncoderInput::new(x.clone()));
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("merged.bpk");
    model
        .merge_and_unload(true)
        .unwrap()
        .save_file(&record)
        .unwrap();
    let plain = config.init(&device).try_load_file(&record).unwrap();
    let found = plain.forward(transformer::TransformerEncoderInput::new(x));
    assert!(found.all_close(expected, None, Some(1e-4)));
}
