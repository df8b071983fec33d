//! Padding and the cache do not change what a row computes.

use burn::tensor::{Int, Tensor, TensorData};
use burn_peft_models::{
    CausalLm, GPT2LMHeadModel, GenerationConfig, KvCache, ModelInput, Pretrained, generate,
    position_ids,
};
use std::ops::ControlFlow;

use crate::common::device;
use crate::conformance::fixtures;

const ROW: [i64; 5] = [7, 42, 3, 198, 11];

fn model() -> GPT2LMHeadModel {
    let folder = fixtures().join("conformance/base-gpt2");
    GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device()).unwrap()
}

fn ids(values: &[i64], rows: usize) -> Tensor<2, Int> {
    let data = TensorData::new(values.to_vec(), [rows, values.len() / rows]);
    Tensor::from_data(data, &device())
}

fn assert_close(found: Tensor<2>, expected: Tensor<2>) {
    let largest = (found - expected).abs().max().into_scalar::<f32>();
    assert!(largest < 1e-4, "differ by {largest}");
}

/// The logits of the five tokens of `ROW`, alone in their batch: `[5, vocab]`.
fn alone(model: &GPT2LMHeadModel) -> Tensor<2> {
    model.forward(ModelInput::new(ids(&ROW, 1))).squeeze_dim(0)
}

#[test]
fn padding_on_either_side() {
    let model = model();
    let expected = alone(&model);
    for (padded, mask, tokens) in [
        ([7, 42, 3, 198, 11, 0, 0], [1, 1, 1, 1, 1, 0, 0], 0..5),
        ([0, 0, 7, 42, 3, 198, 11], [0, 0, 1, 1, 1, 1, 1], 2..7),
    ] {
        // Beside a row without padding, so that the rows have different masks.
        let other = [5, 6, 7, 8, 9, 10, 11];
        let mask = ids(&[mask, [1; 7]].concat(), 2);
        let logits = model.forward(ModelInput {
            attention_mask: Some(mask.clone()),
            position_ids: Some(position_ids(mask)),
            ..ModelInput::new(ids(&[padded, other].concat(), 2))
        });
        assert!(logits.clone().is_finite().all().into_scalar::<bool>());
        let row: Tensor<2> = logits.slice([0..1, tokens, 0..199]).squeeze_dim(0);
        assert_close(row, expected.clone());
    }
}

#[test]
fn the_cache_gives_the_logits_of_the_whole_row() {
    let model = model();
    let whole = alone(&model);
    for split in [1, 2, 4] {
        let mut cache = KvCache::default();
        model.forward_cached(ModelInput::new(ids(&ROW[..split], 1)), &mut cache);
        assert_eq!(cache.len(), split);
        let last = model.forward_cached(ModelInput::new(ids(&ROW[split..], 1)), &mut cache);
        assert_close(last, whole.clone().narrow(0, 4, 1));
    }
}

#[test]
fn rows_of_different_lengths_decode_in_one_pass() {
    let model = model();
    let other = [5, 6, 7, 8, 9, 10, 11];
    let mut cache = KvCache::default();
    // First the first tokens of both rows, then one token at a time, until all are given.
    for seen in 3..=5 {
        let total = seen + 2;
        let new = total - cache.len();
        let padded = [&[0, 0], &ROW[..seen]].concat();
        let tokens = [&padded[total - new..], &other[total - new..total]].concat();
        let mask = [&[0, 0][..], &vec![1; seen], &vec![1; total]].concat();
        let mask = ids(&mask, 2);
        let input = ModelInput {
            attention_mask: Some(mask.clone()),
            position_ids: Some(position_ids(mask).narrow(1, total - new, new)),
            ..ModelInput::new(ids(&tokens, 2))
        };
        let logits = model.forward_cached(input, &mut cache);
        for (row, text) in [&ROW[..seen], &other[..total]].into_iter().enumerate() {
            let alone = model.forward(ModelInput::new(ids(text, 1)));
            let last: Tensor<2> = alone.narrow(1, text.len() - 1, 1).squeeze_dim(1);
            assert_close(logits.clone().narrow(0, row, 1), last);
        }
    }
}

#[test]
fn greedy_generation_takes_the_largest_logit_and_stops_at_eos() {
    let model = model();
    let mut expected = ROW.to_vec();
    for _ in 0..6 {
        let logits = model.forward(ModelInput::new(ids(&expected, 1)));
        let seq = expected.len();
        let last: Tensor<1> = logits.narrow(1, seq - 1, 1).reshape([199]);
        expected.push(last.argmax(0).into_scalar::<i64>());
    }
    let expected: Vec<u32> = expected[5..].iter().map(|&id| id as u32).collect();
    let prompt = ROW.map(|id| id as u32);
    let config = GenerationConfig {
        max_new_tokens: 6,
        ..Default::default()
    };
    let run = |config: &GenerationConfig| {
        let mut seen = Vec::new();
        let tokens = generate(&model, &prompt, config, &mut |token| {
            seen.push(token);
            ControlFlow::Continue(())
        });
        assert_eq!(seen, *tokens.as_ref().unwrap());
        tokens.unwrap()
    };
    assert_eq!(run(&config), expected);
    let first = expected
        .iter()
        .position(|token| *token == expected[3])
        .unwrap();
    let stopped = GenerationConfig {
        eos_token_ids: vec![expected[3]],
        ..config.clone()
    };
    assert_eq!(run(&stopped), expected[..first]);
    let sampled = GenerationConfig {
        temperature: 1.5,
        seed: 3,
        ..config
    };
    assert_eq!(run(&sampled), run(&sampled));
}
