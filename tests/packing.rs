//! Packing does not change what an example computes.

use std::fs;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use burn_peft_data::{Batch, Example, Examples, IGNORE_INDEX, Shape};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, LmBatch, Pretrained, Ragged};
use burn_peft_train::evaluate;

use crate::common::{Lab, anew, device, with_keys};
use crate::conformance::fixtures;

const PACKED_TO: usize = 24;

/// The tiny model of the conformance cases, without dropout.
fn model(device: &Device) -> GPT2LMHeadModel {
    let folder = fixtures().join("conformance/base-gpt2");
    let copy = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let config = config.replace("_pdrop\": 0.1", "_pdrop\": 0.0");
    fs::write(copy.path().join("config.json"), config).unwrap();
    let weights = "model.safetensors";
    fs::copy(folder.join(weights), copy.path().join(weights)).unwrap();
    GPT2LMHeadModel::from_pretrained(copy.path().to_str().unwrap(), device).unwrap()
}

/// Examples of 2 to 12 tokens, some with a prompt that is not learnt.
fn examples() -> Examples {
    let example = |row: usize| {
        let ids = (0..2 + row * 5 % 11).map(|i| ((row * 31 + i * 17) % 199) as u32);
        let input_ids: Vec<u32> = ids.collect();
        let label = |(i, &id): (usize, &u32)| {
            if i < row % 3 {
                IGNORE_INDEX
            } else {
                i64::from(id)
            }
        };
        Example {
            labels: input_ids.iter().enumerate().map(label).collect(),
            input_ids,
            row,
        }
    };
    let rows: Vec<Example> = (1..30).map(example).collect();
    Examples::new("rows", Shape::Tokenized, &rows).unwrap()
}

fn to_device(host: &Batch, device: &Device) -> LmBatch {
    let ragged = Ragged {
        input_ids: &host.input_ids,
        labels: &host.labels,
        texts: &host.spans,
        packed: host.packed.as_deref(),
        width: host.width,
        pad_id: host.pad_id,
    };
    LmBatch::ragged(&ragged, device)
}

/// For every token with a label: the row of its example, its place in it, and its loss.
fn losses(model: &GPT2LMHeadModel, host: &Batch, device: &Device) -> Vec<(usize, usize, f32)> {
    let batch = to_device(host, device);
    let logits = model.forward(batch.input.clone());
    let [rows, seq, vocab] = logits.dims();
    let log_probs: Tensor<2> = log_softmax(logits.reshape([rows * seq, vocab]), 1);
    let picked = batch.supervised().there(log_probs);
    let picked = picked.gather(1, batch.targets().unsqueeze_dim(1));
    let values: Vec<f32> = picked.neg().into_data().iter::<f32>().collect();

    let mut found = Vec::new();
    let mut values = values.into_iter();
    for (span, &row) in host.spans.iter().zip(&host.rows) {
        for (place, at) in span.clone().enumerate().skip(1) {
            if host.labels[at] != IGNORE_INDEX {
                found.push((row, place, values.next().unwrap()));
            }
        }
    }
    assert_eq!(values.next(), None);
    found.sort_by_key(|&(row, place, _)| (row, place));
    found
}

#[test]
fn losses_per_token_are_those_of_the_unpacked_rows() {
    let (plain, packed) = (examples(), examples().packed(PACKED_TO));
    assert!(packed.sequences() * 2 < plain.sequences());
    let all = |examples: &Examples| (0..examples.sequences()).collect::<Vec<_>>();
    // With and without gradients, since attention is computed in two ways.
    for device in [device(), device().autodiff()] {
        let model = model(&device);
        // Without any padding: each example is a batch of its own.
        let alone = all(&plain).into_iter();
        let alone = alone.flat_map(|index| losses(&model, &plain.batch(&[index]), &device));
        let alone: Vec<_> = alone.collect();
        let host = packed.batch(&all(&packed));
        let together = losses(&model, &host, &device);
        assert_eq!(alone.len(), plain.supervised());
        assert_eq!(alone.len(), together.len());
        for (a, b) in alone.iter().zip(&together) {
            assert_eq!((a.0, a.1), (b.0, b.1));
            assert!((a.2 - b.2).abs() < 1e-5, "{a:?} {b:?}");
        }
        // The training loss, too.
        let batch = to_device(&host, &device);
        assert_eq!(batch.count, plain.supervised());
        assert_eq!(batch.tokens, plain.tokens());
        let loss = model.loss(&batch).into_scalar::<f32>() / batch.count as f32;
        let mean = alone.iter().map(|token| token.2).sum::<f32>() / alone.len() as f32;
        assert!((loss - mean).abs() < 1e-5, "{loss} {mean}");
    }
}

#[test]
fn evaluation_is_the_same_packed_or_not() {
    let model = model(&device());
    let run = |examples: &Examples| evaluate(&model, examples, 4, |_, _| ()).unwrap();
    let (plain, packed) = (run(&examples()), run(&examples().packed(PACKED_TO)));
    assert_eq!(plain.count(), packed.count());
    assert!((plain.loss() - packed.loss()).abs() < 1e-5);
}

#[test]
fn a_training_file_packs_and_groups() {
    let lab = Lab::new();
    let last = |sets: &[&str]| {
        let out = lab.ok(&anew(
            "train.toml",
            &[&["training.max_steps=1"], sets].concat(),
        ));
        let line = out.lines().find(|line| line.contains("evaluation: loss"));
        line.unwrap_or_else(|| panic!("{out}")).to_string()
    };
    let plain = last(&[]);
    assert_eq!(last(&["data.packing=true"]), plain);
    assert_eq!(
        last(&["data.packing=true", "training.group_by_length=true"]),
        plain
    );
    assert_eq!(
        last(&["training.train_sampling_strategy=\"group_by_length\""]),
        plain
    );
}

#[test]
fn a_packed_and_grouped_run_goes_on_where_it_stopped() {
    let lab = Lab::new();
    let run = |dir: &str, more: &[&str]| {
        let dir = format!("training.output_dir={dir}");
        let keys = [
            &dir,
            "data.packing=true",
            "data.max_length=12",
            "training.group_by_length=true",
            "training.per_device_train_batch_size=1",
            "training.max_steps=7",
            "training.save_steps=2",
        ];
        lab.ok(&[&with_keys("train.toml", &keys), more].concat())
    };
    run("out", &[]);
    let again = run("again", &["--resume", "out/checkpoint-2"]);
    assert!(again.contains("step 2 of 7"));
    assert!(lab.weights("out") == lab.weights("again"));
}
